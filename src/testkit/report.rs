use std::fmt;

use super::Course;

/// What an [`audit`](super::FirstPromoter::audit) has found, where there is an example.
///
/// `Display` prints the faults, a line each.
#[derive(Clone, Debug)]
#[must_use]
pub struct Report(Vec<Course>);

impl Report {
    pub(super) fn new(courses: Vec<Course>) -> Self {
        Self(courses)
    }

    /// Every reward that was sent.
    pub fn courses(&self) -> &[Course] {
        &self.0
    }

    /// Those with which something went wrong.
    pub fn faults(&self) -> impl Iterator<Item = &Course> {
        self.0.iter().filter(|course| course.fault.is_some())
    }

    /// Passes if the receiver did everything right.
    ///
    /// # Panics
    ///
    /// If not, with what it did wrong.
    #[track_caller]
    pub fn assert_ok(&self) {
        assert!(self.faults().next().is_none(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults().count();
        write!(f, "{faults} of {} rewards went wrong", self.0.len())?;
        self.faults().try_for_each(|course| write!(f, "\n- {course}"))
    }
}

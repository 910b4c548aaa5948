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
    ///
    /// ```
    /// use tower_firstpromoter::testkit::Report;
    ///
    /// fn print(report: &Report) {
    ///     report.courses().iter().for_each(|course| println!("{course}"));
    /// }
    /// ```
    pub fn courses(&self) -> &[Course] {
        &self.0
    }

    /// Those with which something went wrong, as in the example of
    /// [`audit`](super::FirstPromoter::audit).
    pub fn faults(&self) -> impl Iterator<Item = &Course> {
        self.0.iter().filter(|course| course.fault.is_some())
    }

    /// Passes if the receiver did everything right. See [`audit`](super::FirstPromoter::audit) for an
    /// example.
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

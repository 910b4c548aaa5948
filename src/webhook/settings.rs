use std::time::Duration;

use super::Access;
use crate::observe::Observers;

#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) access: Access,
    pub(crate) body_limit: usize,
    /// Only read where there is a clock.
    pub(crate) answer_within: Duration,
    #[cfg(feature = "tokio")]
    pub(crate) handler_is_idempotent: bool,
    pub(crate) observers: Observers,
}

/// A promoter in hundreds of campaigns, at some 0.9 KB each, must still get a reward.
const BODY_LIMIT: usize = 256 * 1024;

/// Of the 15 seconds after which the sender gives up.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Settings {
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            body_limit: BODY_LIMIT,
            answer_within: ANSWER_WITHIN,
            #[cfg(feature = "tokio")]
            handler_is_idempotent: false,
            observers: Observers::default(),
        }
    }
}

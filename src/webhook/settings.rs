use std::{sync::Arc, time::Duration};

use super::Access;
use crate::{fulfil::AttemptSettings, observe::Observers};

/// A promoter in hundreds of campaigns, at some 0.9 KB each, must still be served.
const BODY_LIMIT: usize = 256 * 1024;

/// The sender gives up after 15 seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

const ATTEMPT_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) access: Access,
    pub(super) body_limit: usize,
    pub(super) answer_within: Duration,
    pub(super) attempt: Arc<AttemptSettings>,
}

impl Settings {
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            body_limit: BODY_LIMIT,
            answer_within: ANSWER_WITHIN,
            attempt: Arc::new(AttemptSettings {
                attempt_within: ATTEMPT_WITHIN,
                confirm: None,
                observers: Observers::default(),
            }),
        }
    }

    pub(super) fn attempt(&mut self) -> &mut AttemptSettings {
        Arc::make_mut(&mut self.attempt)
    }
}

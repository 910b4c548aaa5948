use std::{sync::Arc, time::Duration};

use super::Access;
use crate::{fulfil::AttemptSettings, observe::Observers};

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
            // A promoter in hundreds of campaigns, at some 0.9 KB each, must still be served.
            body_limit: 256 * 1024,
            // The sender gives up after 15 seconds.
            answer_within: Duration::from_secs(10),
            attempt: Arc::new(AttemptSettings {
                attempt_within: Duration::from_secs(60),
                confirm: None,
                observers: Observers::default(),
            }),
        }
    }

    pub(super) fn attempt(&mut self) -> &mut AttemptSettings {
        Arc::make_mut(&mut self.attempt)
    }
}

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Start(Instant);

impl Start {
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

pin_project! {
    /// Set when it is first polled: a delivery that never has to wait never touches the timer.
    #[derive(Debug)]
    pub(crate) struct Alarm {
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { sleep: None }
    }

    pub(crate) fn poll(
        self: Pin<&mut Self>,
        start: Start,
        within: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut sleep = self.project().sleep;
        if sleep.is_none() {
            // On another runtime there is no timer to set; the server's own has to do.
            if Handle::try_current().is_err() {
                return Poll::Pending;
            }
            // Past what an `Instant` can hold means never.
            match start.0.checked_add(within) {
                Some(end) => sleep.set(Some(sleep_until(end))),
                None => return Poll::Pending,
            }
        }
        match sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx),
            None => Poll::Pending,
        }
    }
}

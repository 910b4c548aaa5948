use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Start;

impl Start {
    pub(crate) fn now() -> Self {
        Self
    }

    pub(crate) fn elapsed(self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Debug)]
pub(crate) struct Alarm;

impl Alarm {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn poll(
        self: Pin<&mut Self>,
        _: Start,
        _: Duration,
        _: &mut Context<'_>,
    ) -> Poll<()> {
        Poll::Pending
    }
}

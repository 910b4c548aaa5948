use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header, request::Parts};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{Ended, Handler, Settings, admit::admit, read::Read};
use crate::{
    ReplyBody, Verdict,
    clock::{Alarm, Start},
    event::{DecodeError, Fulfilment, Status},
    observe::{Facts, Seen, Span},
    reply::reply,
};

pin_project! {
    /// The future of a [`Webhook`](super::Webhook)'s answer.
    ///
    /// ```
    /// use tower::Service;
    /// use tower_firstpromoter::{Fulfil, Webhook, webhook::WebhookFuture};
    ///
    /// fn deliver(webhook: &mut Webhook<impl Fulfil>, request: http::Request<String>) -> WebhookFuture<String> {
    ///     webhook.call(request) // always ready
    /// }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped, it takes a handler without a store with it, and leaves one with a store alone.
    pub struct WebhookFuture<B> {
        #[pin]
        delivery: Delivery<B>,
    }
}

impl<B> WebhookFuture<B> {
    pub(super) fn new(delivery: Delivery<B>) -> Self {
        Self { delivery }
    }
}

impl<B: Body> Future for WebhookFuture<B> {
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().delivery.poll_answer(cx).map(Ok)
    }
}

impl<B> fmt::Debug for WebhookFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookFuture(..)")
    }
}

/// What has become of a request.
pub(crate) enum Delivered {
    Answer(Response<ReplyBody>),
    /// It brings an event of another type, and is whole.
    OtherEvent(Request<Bytes>),
}

pin_project! {
    /// One request's journey.
    pub(crate) struct Delivery<B> {
        handler: Arc<dyn Handler>,
        settings: Arc<Settings>,
        span: Span,
        start: Start,
        facts: Option<Facts>,
        answered: bool,
        #[pin]
        alarm: Alarm,
        #[pin]
        stage: Stage<B>,
    }

    impl<B> PinnedDrop for Delivery<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if !*this.answered {
                this.span.in_scope(|| {
                    let (facts, elapsed) = (this.facts.as_ref(), this.start.elapsed());
                    this.span.set_hung_up(elapsed);
                    this.settings.observers.tell(&Seen::HungUp { facts, elapsed });
                });
            }
        }
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<B> {
        Refused { verdict: Verdict },
        Reading { #[pin] body: Read<B>, head: Option<Parts> },
        Granting { grant: BoxFuture<'static, Ended> },
    }
}

impl<B: Body> Delivery<B> {
    pub(super) fn new(
        handler: Arc<dyn Handler>,
        settings: Arc<Settings>,
        request: Request<B>,
        keep_head: bool,
    ) -> Self {
        let start = Start::now();
        let span = Span::delivery();
        let (head, body) = request.into_parts();
        let stage = match admit(&head, &settings) {
            Ok(()) => {
                let body = Read::new(body, settings.body_limit);
                // Kept without need, it would keep the transport's buffer from being used again.
                let head = (keep_head || settings.access.judges_body()).then_some(head);
                Stage::Reading { body, head }
            }
            Err(verdict) => Stage::Refused { verdict },
        };
        let alarm = Alarm::new();
        Self { handler, settings, span, start, facts: None, answered: false, alarm, stage }
    }

    /// To the end, in which another event is refused as well.
    pub(crate) fn poll_answer(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Response<ReplyBody>> {
        match ready!(self.as_mut().poll(cx)) {
            Delivered::Answer(answer) => Poll::Ready(answer),
            Delivered::OtherEvent(_) => {
                let span = self.span.clone();
                Poll::Ready(span.in_scope(|| self.answer(Verdict::OtherEvent)))
            }
        }
    }

    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Delivered> {
        let span = self.span.clone();
        span.in_scope(|| self.poll_in_span(cx))
    }

    fn poll_in_span(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Delivered> {
        loop {
            let mut this = self.as_mut().project();
            // The work before the clock: an answer that is there is given, however late.
            let (late, verdict) = match this.stage.as_mut().project() {
                StageProj::Refused { verdict } => {
                    let verdict = *verdict;
                    return Poll::Ready(Delivered::Answer(self.answer(verdict)));
                }
                StageProj::Reading { body, head } => match body.poll(cx) {
                    Poll::Ready(Ok(bytes)) => {
                        let head = head.take();
                        match self.as_mut().begin(head, bytes) {
                            Some(delivered) => return Poll::Ready(delivered),
                            None => continue,
                        }
                    }
                    Poll::Ready(Err(verdict)) => {
                        return Poll::Ready(Delivered::Answer(self.answer(verdict)));
                    }
                    Poll::Pending => (true, Verdict::BodyTimeout),
                },
                StageProj::Granting { grant } => match grant.as_mut().poll(cx) {
                    Poll::Ready(ended) => {
                        return Poll::Ready(Delivered::Answer(self.answer_for(ended, None)));
                    }
                    Poll::Pending => (this.handler.goes_on_alone(), Verdict::InProgress),
                },
            };
            if late {
                ready!(this.alarm.poll(*this.start, this.settings.answer_within, cx));
                return Poll::Ready(Delivered::Answer(self.answer(verdict)));
            }
            return Poll::Pending;
        }
    }

    /// The body is whole: reads it and begins the grant, unless it ends here.
    fn begin(mut self: Pin<&mut Self>, head: Option<Parts>, bytes: Bytes) -> Option<Delivered> {
        let mut this = self.as_mut().project();
        let answer = |verdict| Some(Delivered::Answer(verdict));
        if !this.settings.access.admits_body(head.as_ref(), &bytes) {
            return answer(self.answer(Verdict::Unauthorized));
        }
        let fulfilment = match Fulfilment::decode(bytes.clone()) {
            Ok(fulfilment) => fulfilment,
            Err(DecodeError::OtherEvent) => {
                let Some(head) = head else { return answer(self.answer(Verdict::OtherEvent)) };
                // The application's to answer, or ours; not a hang-up in either case.
                *this.answered = true;
                return Some(Delivered::OtherEvent(Request::from_parts(head, bytes)));
            }
            Err(DecodeError::NotJson { .. }) => return answer(self.answer(Verdict::NotJson)),
            Err(DecodeError::NotAFulfilment(problem)) => {
                let ended = Ended::at(Verdict::NotAFulfilment);
                return answer(self.answer_for(ended, Some(problem)));
            }
        };
        let facts = Facts::from(&fulfilment);
        this.span.set_facts(&facts);
        *this.facts = Some(facts);
        if fulfilment.status != Status::Pending {
            return answer(self.answer(Verdict::NotPending));
        }
        let grant = Arc::clone(this.handler).grant(fulfilment, this.settings, this.span);
        this.stage.set(Stage::Granting { grant });
        None
    }

    fn answer(self: Pin<&mut Self>, verdict: Verdict) -> Response<ReplyBody> {
        self.answer_for(Ended::at(verdict), None)
    }

    fn answer_for(
        self: Pin<&mut Self>,
        ended: Ended,
        problem: Option<&'static str>,
    ) -> Response<ReplyBody> {
        let mut this = self.project();
        *this.answered = true;
        // The body and the grant have had their say; a host may keep the future for longer.
        this.stage.set(Stage::Refused { verdict: ended.verdict });
        let (facts, elapsed) = (this.facts.as_ref(), this.start.elapsed());
        this.span.set_end(ended, elapsed);
        let Ended { verdict, attempt, joined } = ended;
        this.settings.observers.tell(&Seen::Answered {
            verdict,
            facts,
            attempt,
            joined,
            problem,
            elapsed,
        });
        let mut answer = reply(verdict, problem);
        match verdict {
            Verdict::MethodNotAllowed => {
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            Verdict::Unauthorized => {
                if let Some(challenge) = this.settings.access.challenge() {
                    answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                }
            }
            _ => {}
        }
        answer
    }
}

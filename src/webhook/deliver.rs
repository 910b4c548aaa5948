//! Runs one delivery, from its head to its answer.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use super::{
    Webhook,
    admit::admit,
    read::read,
    reply::{ReplyBody, reply},
    settings::Settings,
};
use crate::{
    Verdict,
    event::{DecodeError, Fulfilment, Status},
    fulfil::{Ended, Listener},
    observe::{DeliveryEvent, DeliveryInfo, Span},
};

/// The deadline of a limit that no clock can hold.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// What became of a request.
pub enum Delivered {
    Answer(Response<ReplyBody>),
    /// An event of another type, whole, for the inner service.
    OtherEvent(Request<Bytes>),
}

impl fmt::Debug for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delivered(..)")
    }
}

impl Delivered {
    /// Answers an event of another type as well.
    pub(crate) fn into_answer(self) -> Response<ReplyBody> {
        match self {
            Self::Answer(answer) => answer,
            Self::OtherEvent(_) => reply(Verdict::OtherEvent, None),
        }
    }
}

/// How a delivery ends.
struct End {
    ended: Ended,
    joined: bool,
    problem: Option<&'static str>,
}

impl<E: Into<Ended>> From<E> for End {
    fn from(ended: E) -> Self {
        Self { ended: ended.into(), joined: false, problem: None }
    }
}

/// Handles a request. With `pass`, it returns events of other types instead of refusing them.
pub(super) async fn deliver<B>(
    webhook: Webhook,
    request: Request<B>,
    pass: bool,
    span: Span,
) -> Delivered
where
    B: Body + Send + 'static,
{
    let mut delivery = Delivery::new(&webhook.settings, &span);
    match delivery.run(&webhook, request, pass).await {
        Ok(request) => {
            // The application answers it: report neither an answer nor a hang-up.
            delivery.ended = true;
            Delivered::OtherEvent(request)
        }
        Err(end) => Delivered::Answer(delivery.answer(&end)),
    }
}

/// A delivery in progress. Dropped unfinished, it reports that the sender hung up.
struct Delivery<'a> {
    settings: &'a Settings,
    span: &'a Span,
    start: Instant,
    deadline: Instant,
    secret: Option<usize>,
    info: Option<DeliveryInfo>,
    ended: bool,
}

impl<'a> Delivery<'a> {
    fn new(settings: &'a Settings, span: &'a Span) -> Self {
        let start = Instant::now();
        let deadline = start.checked_add(settings.answer_within).unwrap_or(start + FAR_FUTURE);
        Self { settings, span, start, deadline, secret: None, info: None, ended: false }
    }

    async fn run<B: Body>(
        &mut self,
        webhook: &Webhook,
        request: Request<B>,
        pass: bool,
    ) -> Result<Request<Bytes>, End> {
        let settings = self.settings;
        let (head, body) = request.into_parts();
        self.admitted(admit(&head, settings)?);
        // Kept without need, the head would keep the transport's buffer from being reused.
        let head = (pass || settings.access.judges_body()).then(|| Box::new(head));

        let bytes = timeout_at(self.deadline, read(body, settings.body_limit))
            .await
            .map_err(|_elapsed| Verdict::BodyTimeout)??;
        if settings.access.judges_body() {
            self.admitted(settings.access.admit_body(head.as_deref(), &bytes)?);
        }

        let fulfilment = match Fulfilment::decode(bytes.clone()) {
            Ok(fulfilment) => fulfilment,
            Err(DecodeError::OtherEvent) => {
                return match head {
                    Some(head) if pass => Ok(Request::from_parts(*head, bytes)),
                    _ => Err(Verdict::OtherEvent.into()),
                };
            }
            Err(DecodeError::NotJson { .. }) => return Err(Verdict::NotJson.into()),
            Err(DecodeError::NotAFulfilment(problem)) => {
                let end = End::from(Verdict::NotAFulfilment);
                return Err(End { problem: Some(problem), ..end });
            }
        };
        drop(bytes);
        let mut listener = self.listen(webhook, fulfilment)?;
        let ended = timeout_at(self.deadline, listener.ended()).await;
        let ended = ended.unwrap_or_else(|_elapsed| listener.unfinished().into());
        Err(End { joined: listener.joined, ..End::from(ended) })
    }

    fn listen(&mut self, webhook: &Webhook, fulfilment: Fulfilment) -> Result<Listener, Verdict> {
        let info = self.info.insert(DeliveryInfo::from(&fulfilment));
        self.span.set_info(info);
        match fulfilment.status {
            Status::Pending => webhook.listen(fulfilment, self.span),
            _ => Err(Verdict::NotPending),
        }
    }

    fn admitted(&mut self, secret: Option<usize>) {
        if let Some(position) = secret {
            self.span.set_secret(position);
            self.secret = secret;
        }
    }

    fn answer(&mut self, end: &End) -> Response<ReplyBody> {
        self.ended = true;
        let &End { ended: Ended { verdict, attempt }, joined, problem } = end;
        let (secret, elapsed) = (self.secret, self.start.elapsed());
        self.span.set_end(verdict, attempt, joined, elapsed);
        self.settings.attempt.observers.emit(&DeliveryEvent::Answered {
            verdict,
            info: self.info.as_ref(),
            attempt,
            joined,
            secret,
            problem,
            elapsed,
        });
        let mut answer = reply(verdict, problem);
        if verdict == Verdict::Unauthorized {
            if let Some(challenge) = self.settings.access.challenge() {
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
        }
        answer
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let (info, elapsed) = (self.info.as_ref(), self.start.elapsed());
            self.span.set_hung_up(elapsed);
            self.settings.attempt.observers.emit(&DeliveryEvent::HungUp { info, elapsed });
        }
    }
}

/// Runs an attempt without HTTP. Also returns whether this call started it and the handler ran.
pub(super) async fn fulfil(
    webhook: &Webhook,
    fulfilment: Fulfilment,
    span: &Span,
) -> (Verdict, bool) {
    let mut delivery = Delivery::new(&webhook.settings, span);
    let end = match delivery.listen(webhook, fulfilment) {
        Ok(mut listener) => {
            let ended = listener.ended().await;
            End { joined: listener.joined, ..End::from(ended) }
        }
        Err(verdict) => verdict.into(),
    };
    delivery.answer(&end);
    (end.ended.verdict, end.ended.attempt > 0 && !end.joined)
}

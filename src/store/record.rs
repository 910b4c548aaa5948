use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::event::{Amount, Fulfilment, FulfilmentId, PromoterId, Unit};

/// The longest unit or customer id in a record, in characters.
const LONGEST_WORD: usize = 255;

/// The longest reason in a record, in characters.
const LONGEST_REASON: usize = 300;

/// The longest namespace, in bytes.
const LONGEST_NAMESPACE: usize = 200;

/// Default limit of one attempt.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(60);

/// Describes a fulfilment to a store: what identifies it and explains it to an operator.
///
/// The body, secrets and e-mail addresses cannot reach a store, because a claim has none.
///
/// ```
/// use tower_firstpromoter::{event::Fulfilment, store::Claim};
///
/// let fulfilment = Fulfilment::decode(r#"{
///     "event": { "type": "fulfilment_pending" },
///     "data": { "id": 2429153, "amount": 3, "unit": "credits", "promoter": { "id": 7, "cust_id": "ada" } }
/// }"#)?;
/// let claim = Claim::new(&fulfilment);
/// assert_eq!((claim.id().get(), claim.promoter().get()), (2429153, 7));
/// assert_eq!((claim.amount().to_string(), claim.unit().as_str()), ("3".into(), "credits"));
/// assert_eq!(claim.cust_id(), Some("ada"));
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    id: FulfilmentId,
    unit: Unit,
    amount: Amount,
    promoter: PromoterId,
    cust_id: Option<String>,
    attempt_within: Duration,
}

impl Claim {
    /// Describes `fulfilment`, for an attempt of at most 60 seconds. See [`Claim`] for an example.
    pub fn new(fulfilment: &Fulfilment) -> Self {
        Self {
            id: fulfilment.id,
            unit: match &fulfilment.unit {
                Unit::Other(unit) => Unit::from(shortened(unit, LONGEST_WORD)),
                unit => unit.clone(),
            },
            amount: fulfilment.amount,
            promoter: fulfilment.promoter.id,
            cust_id: fulfilment
                .promoter
                .cust_id
                .as_deref()
                .map(|text| shortened(text, LONGEST_WORD).to_owned()),
            attempt_within: ATTEMPT_WITHIN,
        }
    }

    /// Sets the limit of the attempt, as [`Webhook::attempt_within`](crate::Webhook::attempt_within)
    /// does.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_firstpromoter::{event::Fulfilment, store::Claim};
    /// # let fulfilment = Fulfilment::decode(r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#).unwrap();
    /// let claim = Claim::new(&fulfilment).with_attempt_within(Duration::from_secs(5));
    /// assert_eq!(claim.attempt_within(), Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn with_attempt_within(mut self, limit: Duration) -> Self {
        self.attempt_within = limit;
        self
    }

    /// Returns the fulfilment's id. See [`Claim`] for an example, also of the next four.
    pub fn id(&self) -> FulfilmentId {
        self.id
    }

    /// Returns the unit, at most 255 characters of it.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Returns the amount.
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Returns the promoter's id.
    pub fn promoter(&self) -> PromoterId {
        self.promoter
    }

    /// Returns the application's own id of the promoter, at most 255 characters of it.
    pub fn cust_id(&self) -> Option<&str> {
        self.cust_id.as_deref()
    }

    /// Returns the limit of the attempt: from the return of [`Store::begin`](super::Store::begin), the
    /// handler runs for at most this long. See
    /// [`with_attempt_within`](Claim::with_attempt_within) for an example.
    pub fn attempt_within(&self) -> Duration {
        self.attempt_within
    }
}

/// The answer of [`Store::begin`](super::Store::begin). See [`Store`](super::Store) for an example.
#[derive(Debug)]
#[must_use]
pub enum Begin<Tx> {
    /// The attempt may run.
    Run {
        /// The right to run it.
        tx: Tx,
        /// The number of this run of the handler, from 1.
        attempt: u32,
    },
    /// An earlier attempt was cut off and may have taken effect.
    InDoubt {
        /// The right to run an attempt, once the doubt is resolved. If it is dropped, the doubt
        /// stays.
        tx: Tx,
        /// The number that a run of the handler would have.
        attempt: u32,
    },
    /// The fulfilment is fulfilled.
    Fulfilled,
    /// Another attempt is running, or may be.
    Busy,
    /// The record of this id names another promoter: two accounts share a store without namespaces.
    Mismatch,
}

/// How an attempt ended, given to [`Store::end`](super::Store::end). See [`Store`](super::Store) for
/// an example.
///
/// The reasons go to the record as they are, at most 300 characters of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The handler fulfilled it. Its writes through the transaction are kept.
    Fulfilled,
    /// The handler left it pending. Its writes through the transaction are kept.
    Pending,
    /// The handler returned an error: nothing took effect. Its writes are undone.
    Failed(String),
    /// The handler cannot know whether it took effect. Its writes are undone, and the record is in
    /// doubt on every store.
    InDoubt(String),
    /// The handler panicked, or was dropped at its time limit. A transactional store undoes its
    /// writes and records the attempt as failed; a journal records it as in doubt.
    Interrupted(String),
    /// The handler was not called. An attempt that began in doubt stays in doubt, with the reason it
    /// had.
    NotRun(String),
    /// An earlier attempt had fulfilled it; the handler was not called.
    WasFulfilled,
}

/// What a store knows of a fulfilment. See [`Store`](super::Store) for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The fulfilment's id.
    pub id: FulfilmentId,
    /// The unit of the latest attempt.
    pub unit: Unit,
    /// The amount of the latest attempt.
    pub amount: Amount,
    /// The promoter.
    pub promoter: PromoterId,
    /// The application's own id of the promoter.
    pub cust_id: Option<String>,
    /// The state.
    pub state: State,
    /// The number of runs of the handler. A run that a transactional store undid because its process
    /// or connection ended is not counted.
    pub attempts: u32,
    /// Why the latest attempt is not fulfilled: the error, the panic or the doubt.
    pub reason: Option<String>,
    /// When the record was made.
    pub first_seen: SystemTime,
    /// When the record last changed.
    pub changed: SystemTime,
}

impl Record {
    /// Creates the record of a first attempt that begins at `now`, for implementations of
    /// [`Store`](super::Store).
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use tower_firstpromoter::store::{Record, State};
    /// # use tower_firstpromoter::{event::Fulfilment, store::Claim};
    /// # let fulfilment = Fulfilment::decode(r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#).unwrap();
    /// # let claim = Claim::new(&fulfilment);
    ///
    /// let record = Record::new(&claim, SystemTime::now());
    /// assert_eq!((record.state, record.attempts), (State::Started, 0));
    /// ```
    pub fn new(claim: &Claim, now: SystemTime) -> Self {
        Self {
            id: claim.id,
            unit: claim.unit.clone(),
            amount: claim.amount,
            promoter: claim.promoter,
            cust_id: claim.cust_id.clone(),
            state: State::Started,
            attempts: 0,
            reason: None,
            first_seen: now,
            changed: now,
        }
    }
}

/// The state of a record. See [`as_str`](State::as_str) for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// An attempt is running.
    Started,
    /// An attempt began, and whether it took effect is not known.
    InDoubt,
    /// Fulfilled, for good.
    Fulfilled,
    /// Left pending by the handler.
    Pending,
    /// Nothing took effect: the handler returned an error, or was undone, or an operator said so.
    Failed,
}

impl State {
    /// Returns the state as the stores of this crate write it.
    ///
    /// ```
    /// use tower_firstpromoter::store::State;
    ///
    /// assert_eq!(State::InDoubt.as_str(), "in_doubt");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::InDoubt => "in_doubt",
            Self::Fulfilled => "fulfilled",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }

    #[allow(dead_code, reason = "only the stores behind features write it")]
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Started, Self::InDoubt, Self::Fulfilled, Self::Pending, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The error of a namespace that is longer than 200 bytes or has a control character.
///
/// ```
/// use tower_firstpromoter::store::MemoryStore;
///
/// # #[cfg(feature = "redb")] {
/// # use tower_firstpromoter::store::RedbStore;
/// # let dir = tempfile::tempdir().unwrap();
/// # let store = RedbStore::open(dir.path().join("fulfilments.redb")).unwrap();
/// let error = store.namespace("a".repeat(201)).unwrap_err();
/// assert_eq!(error.to_string(), "a namespace has at most 200 bytes and no control characters");
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a namespace has at most {LONGEST_NAMESPACE} bytes and no control characters")]
pub struct InvalidNamespace(());

#[allow(dead_code, reason = "only the stores behind features have namespaces")]
pub(super) fn namespace(account: &str) -> Result<Arc<str>, InvalidNamespace> {
    if account.len() > LONGEST_NAMESPACE || account.chars().any(char::is_control) {
        return Err(InvalidNamespace(()));
    }
    Ok(account.into())
}

/// Decides what a record allows while no attempt is running.
pub(super) fn decide(known: Option<(State, PromoterId, u32)>, claim: &Claim) -> Begin<()> {
    let Some((state, promoter, attempts)) = known else {
        return Begin::Run { tx: (), attempt: 1 };
    };
    let attempt = attempts.saturating_add(1);
    // A fulfilment that never ran may be forged, with any promoter: it must not block the real one.
    let ran = attempts > 0 || state != State::Failed;
    match state {
        _ if promoter != claim.promoter && ran => Begin::Mismatch,
        State::Fulfilled => Begin::Fulfilled,
        State::Started | State::InDoubt => Begin::InDoubt { tx: (), attempt },
        State::Pending | State::Failed => Begin::Run { tx: (), attempt },
    }
}

impl Begin<()> {
    /// Puts the right to run into the answer, made by `with` from the attempt's number and whether
    /// it begins in doubt.
    pub(super) fn with<Tx>(self, with: impl FnOnce(Attempt) -> Tx) -> Begin<Tx> {
        match self {
            Self::Run { attempt, .. } => {
                Begin::Run { tx: with(Attempt { number: attempt, in_doubt: false }), attempt }
            }
            Self::InDoubt { attempt, .. } => {
                Begin::InDoubt { tx: with(Attempt { number: attempt, in_doubt: true }), attempt }
            }
            Self::Fulfilled => Begin::Fulfilled,
            Self::Busy => Begin::Busy,
            Self::Mismatch => Begin::Mismatch,
        }
    }
}

/// What a `Tx` remembers of its begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// The number that this run of the handler has, or would have.
    pub(super) number: u32,
    /// Whether it began in doubt.
    pub(super) in_doubt: bool,
}

/// What to record of an end.
pub(super) struct Ended {
    pub(super) state: State,
    /// `None` keeps the reason of a record that stays in doubt, and clears any other.
    pub(super) reason: Option<String>,
    pub(super) attempts: u32,
}

impl Attempt {
    /// Derives what to record of an end; `undoes` is true for a transactional store.
    pub(super) fn ended(self, end: End, undoes: bool) -> Ended {
        let (state, reason, ran) = match end {
            End::Fulfilled => (State::Fulfilled, None, true),
            End::WasFulfilled => (State::Fulfilled, None, false),
            End::Pending => (State::Pending, None, true),
            End::Failed(reason) => (State::Failed, Some(reason), true),
            End::InDoubt(reason) => (State::InDoubt, Some(reason), true),
            End::Interrupted(reason) if undoes => (State::Failed, Some(reason), true),
            End::Interrupted(reason) => (State::InDoubt, Some(reason), true),
            End::NotRun(_) if self.in_doubt => (State::InDoubt, None, false),
            End::NotRun(reason) => (State::Failed, Some(reason), false),
        };
        let reason = reason.map(|reason| shortened(&reason, LONGEST_REASON).to_owned());
        let attempts = if ran { self.number } else { self.number.saturating_sub(1) };
        Ended { state, reason, attempts }
    }
}

/// The reason of an attempt that never ended.
pub(super) const CUT_OFF: &str = "the attempt was cut off";

/// What a journal of one process does to its records, which no other process changes.
impl Record {
    /// Decides on an attempt and records that it begins.
    pub(super) fn begun(
        before: Option<Self>,
        claim: &Claim,
        now: SystemTime,
    ) -> (Begin<()>, Option<Self>) {
        let before = before.map(|record| record.shown(false));
        let known = before.as_ref().map(|record| (record.state, record.promoter, record.attempts));
        let answer = decide(known, claim);
        let mut record = Self::new(claim, now);
        if let Some(before) = before {
            record.first_seen = before.first_seen;
            record.attempts = before.attempts;
            record.reason = before.reason;
        }
        match answer {
            Begin::Run { attempt, .. } => {
                record.attempts = attempt;
                record.reason = None;
                (answer, Some(record))
            }
            Begin::InDoubt { .. } => (answer, Some(record)),
            Begin::Fulfilled | Begin::Busy | Begin::Mismatch => (answer, None),
        }
    }

    /// Records how the attempt ended.
    pub(super) fn end(&mut self, attempt: Attempt, end: End, now: SystemTime) {
        let ended = attempt.ended(end, false);
        self.state = ended.state;
        self.attempts = ended.attempts;
        self.changed = now;
        if ended.reason.is_some() || ended.state != State::InDoubt {
            self.reason = ended.reason;
        }
    }

    /// Shows what is started and held by nobody as in doubt.
    pub(super) fn shown(mut self, held: bool) -> Self {
        if self.state == State::Started && !held {
            self.state = State::InDoubt;
            self.reason.get_or_insert_with(|| CUT_OFF.to_owned());
        }
        self
    }
}

/// The state and the reason of a record after an operator resolved its doubt.
pub(super) fn resolved(fulfilled: bool) -> (State, Option<&'static str>) {
    if fulfilled {
        (State::Fulfilled, None)
    } else {
        (State::Failed, Some("resolved: it was not fulfilled"))
    }
}

fn shortened(text: &str, longest: usize) -> &str {
    text.char_indices().nth(longest).map_or(text, |(end, _)| &text[..end])
}

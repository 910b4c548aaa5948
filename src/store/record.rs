use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::event::{Amount, Fulfilment, FulfilmentId, PromoterId, Unit};

// The longest texts in a record, in characters, and the longest namespace, in bytes.
const LONGEST_WORD: usize = 255;
const LONGEST_REASON: usize = 300;
const LONGEST_NAMESPACE: usize = 200;

/// Describes a fulfilment to a store: what identifies it and explains it to an operator.
///
/// The body, secrets and e-mail addresses cannot reach a store, because they are not here.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_firstpromoter::{event::Fulfilment, store::{Claim, Record, State}};
///
/// let fulfilment = Fulfilment::decode(r#"{
///     "event": { "type": "fulfilment_pending" },
///     "data": { "id": 2429153, "amount": 3, "unit": "credits", "promoter": { "id": 7, "cust_id": "ada" } }
/// }"#)?;
/// let claim = Claim::new(&fulfilment);
/// assert_eq!((claim.id.get(), claim.promoter.get()), (2429153, 7));
/// assert_eq!((claim.amount.to_string(), claim.unit.as_str()), ("3".into(), "credits"));
/// assert_eq!(claim.cust_id.as_deref(), Some("ada"));
/// assert_eq!(claim.attempt_within, Duration::from_secs(60));
///
/// let record = Record::new(&claim, SystemTime::now());
/// assert_eq!((record.state, record.state.as_str(), record.attempts), (State::Started, "started", 0));
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// The fulfilment's id.
    pub id: FulfilmentId,
    /// The unit, at most 255 characters of it.
    pub unit: Unit,
    /// The amount.
    pub amount: Amount,
    /// The promoter's id.
    pub promoter: PromoterId,
    /// The application's own id of the promoter, at most 255 characters of it.
    pub cust_id: Option<String>,
    /// The limit of the handler's run, from the return of [`Store::begin`](super::Store::begin).
    pub attempt_within: Duration,
}

impl Claim {
    /// Describes `fulfilment`, for an attempt of at most 60 seconds. See [`Claim`] for an example.
    pub fn new(fulfilment: &Fulfilment) -> Self {
        let promoter = &fulfilment.promoter;
        Self {
            id: fulfilment.id,
            unit: shortened(fulfilment.unit.as_str(), LONGEST_WORD).into(),
            amount: fulfilment.amount,
            promoter: promoter.id,
            cust_id: promoter.cust_id.as_deref().map(|id| shortened(id, LONGEST_WORD).to_owned()),
            attempt_within: Duration::from_secs(60),
        }
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
        /// The right to run, once the doubt is resolved. If it is dropped, the doubt stays.
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

/// How an attempt ended. See [`Store`](super::Store) for an example.
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
    /// The handler cannot know if it took effect: in doubt on every store. Its writes are undone.
    InDoubt(String),
    /// The handler panicked, or was dropped at its time limit. A transactional store undoes its
    /// writes and records the attempt as failed; a journal records it as in doubt.
    Interrupted(String),
    /// The handler was not called. What began in doubt stays in doubt, with the reason it had.
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
    /// The number of runs of the handler, without those undone because a process or connection ended.
    pub attempts: u32,
    /// Why the latest attempt is not fulfilled: the error, the panic or the doubt.
    pub reason: Option<String>,
    /// When the record was made.
    pub first_seen: SystemTime,
    /// When the record last changed.
    pub changed: SystemTime,
}

impl Record {
    /// Creates the record of a first attempt that begins at `now`, for stores of your own: started,
    /// with no run counted. See [`Claim`] for an example.
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

/// The state of a record. See [`Claim`] for an example.
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
    /// Returns the state as the stores of this crate write it. See [`Claim`] for an example.
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

/// The error of a namespace over 200 bytes or with control characters. `RedbStore` has an example.
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

/// What a `Tx` remembers of its begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// The number that this run of the handler has, or would have.
    pub(super) number: u32,
    /// Whether it began in doubt.
    pub(super) in_doubt: bool,
}

/// Decides what a record allows while no attempt is running; `right` makes the right to run one.
pub(super) fn decide<Tx>(
    known: Option<(State, PromoterId, u32)>,
    claim: &Claim,
    right: impl FnOnce(Attempt) -> Tx,
) -> Begin<Tx> {
    let (state, promoter, attempts) = known.unwrap_or((State::Failed, claim.promoter, 0));
    let attempt = attempts.saturating_add(1);
    let tx = |in_doubt| right(Attempt { number: attempt, in_doubt });
    // A fulfilment that never ran may be forged, with any promoter: it must not block the real one.
    let ran = attempts > 0 || state != State::Failed;
    match state {
        _ if promoter != claim.promoter && ran => Begin::Mismatch,
        State::Fulfilled => Begin::Fulfilled,
        State::Started | State::InDoubt => Begin::InDoubt { tx: tx(true), attempt },
        State::Pending | State::Failed => Begin::Run { tx: tx(false), attempt },
    }
}

/// What to record of an end.
pub(super) struct Ended {
    pub(super) state: State,
    /// `None` keeps the reason of a record that stays in doubt, and clears any other.
    pub(super) reason: Option<String>,
    pub(super) attempts: u32,
    /// The attempt's own number.
    #[allow(dead_code, reason = "only the SQL stores ask for it")]
    pub(super) number: u32,
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
        Ended { state, reason, attempts, number: self.number }
    }
}

/// The reason of an attempt that never ended.
pub(super) const CUT_OFF: &str = "the attempt was cut off";

impl Record {
    pub(super) fn known(&self) -> (State, PromoterId, u32) {
        (self.state, self.promoter, self.attempts)
    }

    // What follows is for journals of one process, whose records no other process changes.

    /// Decides on an attempt, and records that it begins if it does.
    pub(super) fn begin<Tx>(
        record: &mut Option<Self>,
        claim: &Claim,
        right: impl FnOnce(Attempt) -> Tx,
    ) -> Begin<Tx> {
        decide(record.as_ref().map(Self::known), claim, |attempt| {
            let mut begun = Self::new(claim, SystemTime::now());
            begun.attempts = attempt.number - u32::from(attempt.in_doubt);
            if let Some(before) = record.take() {
                begun.first_seen = before.first_seen;
                begun.reason = before.shown(false).reason.filter(|_| attempt.in_doubt);
            }
            *record = Some(begun);
            right(attempt)
        })
    }

    /// Records how the attempt ended, and returns the state it leaves.
    pub(super) fn end(&mut self, attempt: Attempt, end: End) -> State {
        let ended = attempt.ended(end, false);
        self.state = ended.state;
        self.attempts = ended.attempts;
        self.changed = SystemTime::now();
        if ended.reason.is_some() || ended.state != State::InDoubt {
            self.reason = ended.reason;
        }
        self.state
    }

    /// Resolves the doubt of a record that no attempt holds. Returns whether there was one.
    pub(super) fn resolve(&mut self, fulfilled: bool) -> bool {
        let in_doubt = matches!(self.state, State::Started | State::InDoubt);
        if in_doubt {
            let (state, reason) = resolved(fulfilled);
            (self.state, self.reason) = (state, reason.map(str::to_owned));
            self.changed = SystemTime::now();
        }
        in_doubt
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
    let failed = (State::Failed, Some("resolved: it was not fulfilled"));
    if fulfilled { (State::Fulfilled, None) } else { failed }
}

fn shortened(text: &str, longest: usize) -> &str {
    text.char_indices().nth(longest).map_or(text, |(end, _)| &text[..end])
}

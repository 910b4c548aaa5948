use std::{fmt, future::Future, time::SystemTime};

use crate::{
    BoxError,
    event::{Amount, Fulfilment, FulfilmentId, PromoterId, Unit},
};

/// Remembers which rewards were granted.
///
/// # The contract
///
/// A transaction (`Tx`) is the right to grant one reward. Every store keeps these promises, and
/// `testkit::store_contract` checks them:
///
/// 1. **At most one holds it.** Of all [`begin`](Store::begin)s for an id, at most one has a `Tx` at
///    a time, on however many machines share the store.
/// 2. **Granted is for good.** After [`end`](Store::end) with [`End::Granted`] returned `Ok`, every
///    later `begin` says [`Begin::Granted`], whatever crashes, until [`forget`](Store::forget).
/// 3. **The intention is durable.** Before `begin` returns [`Begin::Run`], the store can tell,
///    whatever crashes, that a grant may have happened; or it can undo the grant.
/// 4. **Cut off is never clean.** A `Tx` dropped without `end` is undone, if the grant was made
///    through it ([`Claim::in_tx`]) and the store can; else the next `begin` says
///    [`Begin::InDoubt`], never `Run`.
/// 5. **Nobody waits.** `begin` says [`Begin::Busy`] at once while another holds the `Tx`.
/// 6. **Released in one place.** `end`, or else the drop of the `Tx`; a late drop never takes the
///    right from a successor.
///
/// No verb is dropped half-way by this crate: each runs in a task of its own, so none has to be
/// cancel-safe. A store keeps what [`Claim`] shows and nothing else of the delivery.
///
/// A store stands for one FirstPromoter account, whose ids are unique. The stores of this crate
/// have `namespace` for applications with more than one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use tower_firstpromoter::once::{Begin, Claim, End, MemoryStore, Store};
/// # use tower_firstpromoter::event::Fulfilment;
/// # let fulfilment = Fulfilment::decode(r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#).unwrap();
///
/// let store = MemoryStore::new(1_000);
/// let claim = Claim::from(&fulfilment);
/// let Ok(Begin::Run { tx, attempt: 1 }) = store.begin(&claim).await else { panic!() };
/// assert!(matches!(store.begin(&claim).await, Ok(Begin::Busy)));
/// store.end(tx, End::Granted).await.unwrap();
/// assert!(matches!(store.begin(&claim).await, Ok(Begin::Granted)));
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot remember which rewards were granted",
    note = "use `RedbStore`, `PostgresStore`, `SqliteStore` or `MemoryStore`, or implement `Store`"
)]
pub trait Store: Send + Sync + 'static {
    /// The right to grant one reward; for a database, its open transaction.
    type Tx: Send + 'static;

    /// What can go wrong.
    type Error: Into<BoxError>;

    /// Whether what a handler writes through a transaction is undone with it: true for
    /// `PostgresStore` and `SqliteStore`. Unless it is, a handler that was cut off may have granted,
    /// whichever trait it implements.
    ///
    /// ```
    /// use tower_firstpromoter::once::{MemoryStore, Store};
    ///
    /// assert!(!MemoryStore::UNDOES); // nothing can be written through its `Tx`
    /// ```
    const UNDOES: bool = false;

    /// Asks for the right to grant, as [`Store`]'s example does.
    ///
    /// # Errors
    ///
    /// If the store is out of reach. The handler is not called, and the delivery is answered with
    /// `503`.
    fn begin(
        &self,
        claim: &Claim,
    ) -> impl Future<Output = Result<Begin<Self::Tx>, Self::Error>> + Send;

    /// Takes down how a grant ended, durably, and gives the right back, as [`Store`]'s example does.
    ///
    /// # Errors
    ///
    /// If it is not certain that this is durable. The delivery is answered with `503`.
    fn end(&self, tx: Self::Tx, end: End) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Forgets what is known of a reward, so that it may be granted again: for a grant that was
    /// reversed on purpose. `false` if there was nothing to forget, or a grant is running.
    ///
    /// # Errors
    ///
    /// If the store is out of reach.
    ///
    /// ```
    /// use tower_firstpromoter::{event::FulfilmentId, once::Store};
    ///
    /// /// The customer has given the months back, and may earn them again.
    /// async fn reversed<S: Store>(store: &S, id: FulfilmentId) -> Result<bool, S::Error> {
    ///     store.forget(id).await
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let store = tower_firstpromoter::once::MemoryStore::new(1);
    /// # assert_eq!(reversed(&store, 1.into()).await, Ok(false));
    /// # }
    /// ```
    fn forget(&self, id: FulfilmentId) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// The rewards in doubt: begun, cut off, and neither undone nor asked about since.
    ///
    /// # Errors
    ///
    /// If the store is out of reach.
    ///
    /// ```
    /// use tower_firstpromoter::once::Store;
    ///
    /// async fn list<S: Store>(store: &S) -> Result<(), S::Error> {
    ///     for doubt in store.in_doubt().await? {
    ///         println!("{}: {} {} for promoter {}", doubt.id, doubt.amount, doubt.unit, doubt.promoter);
    ///     }
    ///     Ok(())
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # list(&tower_firstpromoter::once::MemoryStore::new(1)).await.unwrap();
    /// # }
    /// ```
    fn in_doubt(&self) -> impl Future<Output = Result<Vec<Record>, Self::Error>> + Send;

    /// Ends a doubt by an operator's word: the reward was granted, or it was not and may be. `false`
    /// if it is not in doubt.
    ///
    /// # Errors
    ///
    /// If the store is out of reach.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use tower_firstpromoter::once::{Begin, Claim, MemoryStore, Store};
    /// # use tower_firstpromoter::event::Fulfilment;
    /// # let fulfilment = Fulfilment::decode(r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#).unwrap();
    /// # let claim = Claim::from(&fulfilment);
    ///
    /// let store = MemoryStore::new(1_000);
    /// drop(store.begin(&claim).await); // cut off
    /// assert_eq!(store.settle(claim.id(), true).await, Ok(true)); // "it was granted"
    /// assert!(matches!(store.begin(&claim).await, Ok(Begin::Granted)));
    /// # }
    /// ```
    fn settle(
        &self,
        id: FulfilmentId,
        granted: bool,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// The answer to [`Store::begin`]. See [`Store`] for an example.
#[derive(Debug)]
#[must_use]
pub enum Begin<Tx> {
    /// It was granted before.
    Granted,
    /// Somebody else is granting it now.
    Busy,
    /// It is yours to grant.
    Run {
        /// The right to do so.
        tx: Tx,
        /// How often a grant of this reward was begun, this time included.
        attempt: u32,
    },
    /// It is yours, but an earlier attempt was cut off and may have granted it.
    InDoubt {
        /// The right to grant it, once that is known. Dropped, the doubt stays.
        tx: Tx,
        /// How often a grant of this reward was begun, this time included.
        attempt: u32,
    },
}

/// How a grant ended. See [`Store`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is granted. What was written through the transaction is kept.
    Granted,
    /// The handler left it pending. What was written through the transaction is kept.
    Pending,
    /// Nothing was granted. What was written through the transaction is undone, and this reason
    /// kept.
    Failed(String),
}

/// What a store is told of a reward: enough to remember it and to explain it to an operator. The
/// body, secrets and e-mail addresses cannot reach a store, because they are not here.
///
/// ```
/// use tower_firstpromoter::{event::Fulfilment, once::Claim};
///
/// let fulfilment = Fulfilment::decode(r#"{
///     "event": { "type": "fulfilment_pending" },
///     "data": { "id": 2429153, "amount": 3, "unit": "credits", "promoter": { "id": 7 } }
/// }"#)?;
/// let claim = Claim::from(&fulfilment);
/// assert_eq!(claim.id().get(), 2429153);
/// assert_eq!((claim.amount().to_string(), claim.unit().as_str()), ("3".into(), "credits"));
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    id: FulfilmentId,
    unit: Unit,
    amount: Amount,
    promoter: PromoterId,
    in_tx: bool,
}

impl Claim {
    /// Which reward. See [`Claim`] for an example, also of the next three.
    pub fn id(&self) -> FulfilmentId {
        self.id
    }

    /// What the amount counts.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// How much.
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// For whom.
    pub fn promoter(&self) -> PromoterId {
        self.promoter
    }

    /// Whether the grant is made through the transaction and so is undone with it: the handler
    /// implements [`FulfilIn`](crate::FulfilIn) itself, and the store [undoes](Store::UNDOES). See
    /// [`with_in_tx`](Claim::with_in_tx) for an example.
    pub fn in_tx(&self) -> bool {
        self.in_tx
    }

    /// The same claim for a grant made through the transaction, or elsewhere: for tests of stores.
    ///
    /// ```
    /// # use tower_firstpromoter::{event::Fulfilment, once::Claim};
    /// # let fulfilment = Fulfilment::decode(r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#).unwrap();
    /// let claim = Claim::from(&fulfilment);
    /// assert!(!claim.in_tx());
    /// assert!(claim.with_in_tx(true).in_tx());
    /// ```
    pub fn with_in_tx(mut self, in_tx: bool) -> Self {
        self.in_tx = in_tx;
        self
    }
}

/// A claim for a grant made elsewhere than in the store's transaction.
impl From<&Fulfilment> for Claim {
    fn from(fulfilment: &Fulfilment) -> Self {
        Self {
            id: fulfilment.id,
            unit: fulfilment.unit.clone(),
            amount: fulfilment.amount,
            promoter: fulfilment.promoter.id,
            in_tx: false,
        }
    }
}

/// What a store knows of a reward. See [`Store::in_doubt`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Which reward.
    pub id: FulfilmentId,
    /// What the amount counts.
    pub unit: Unit,
    /// How much.
    pub amount: Amount,
    /// For whom.
    pub promoter: PromoterId,
    /// Where it stands.
    pub state: State,
    /// How often a grant was begun. One that the database undid when it was cut off is not counted.
    pub attempts: u32,
    /// Why the last attempt that failed did.
    pub last_error: Option<String>,
    /// When it was first heard of.
    pub first_seen: SystemTime,
    /// When this record last changed.
    pub changed: SystemTime,
}

impl Record {
    /// Of a reward that is heard of for the first time, for stores to begin with.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use tower_firstpromoter::once::{Claim, Record, State};
    ///
    /// fn first(claim: &Claim) -> Record {
    ///     let now = SystemTime::now();
    ///     Record::new(claim.id(), claim.unit().clone(), claim.amount(), claim.promoter(), now)
    /// }
    /// # let fulfilment = tower_firstpromoter::event::Fulfilment::decode(r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#).unwrap();
    /// # assert_eq!((first(&Claim::from(&fulfilment)).state, first(&Claim::from(&fulfilment)).attempts), (State::New, 0));
    /// ```
    pub fn new(
        id: FulfilmentId,
        unit: Unit,
        amount: Amount,
        promoter: PromoterId,
        first_seen: SystemTime,
    ) -> Self {
        let (state, attempts, changed) = (State::New, 0, first_seen);
        Self { id, unit, amount, promoter, state, attempts, last_error: None, first_seen, changed }
    }

    pub(super) fn of(claim: &Claim, now: SystemTime) -> Self {
        Self::new(claim.id, claim.unit.clone(), claim.amount, claim.promoter, now)
    }
}

/// Where a reward stands. In doubt is [`State::Started`] without anybody at work on it. See
/// [`as_str`](State::as_str) for an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Heard of; nothing was tried, or what was tried is undone.
    New,
    /// A grant was begun.
    Started,
    /// Granted.
    Granted,
    /// Left pending by the handler.
    Pending,
    /// The handler said that nothing was granted, or it panicked and is undone.
    Failed,
}

impl State {
    /// As the stores of this crate write it.
    ///
    /// ```
    /// use tower_firstpromoter::once::State;
    ///
    /// assert_eq!(State::Granted.as_str(), "granted");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Started => "started",
            Self::Granted => "granted",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

use http::StatusCode;

/// Every way a delivery can end. One end, one status, one code.
///
/// A [`Webhook`](crate::Webhook) puts it into the extensions of its response, so that trace layers,
/// metrics and tests read *why* without taking a status apart:
///
/// ```
/// use tower_firstpromoter::Verdict;
///
/// fn count(response: &http::Response<()>) -> &'static str {
///     response.extensions().get::<Verdict>().map_or("not a delivery", |verdict| verdict.code())
/// }
/// # let mut response = http::Response::new(());
/// # response.extensions_mut().insert(Verdict::Pending);
/// # assert_eq!(count(&response), "pending");
/// ```
///
/// To FirstPromoter only three of them differ: `200` (granted, for good), any other `2xx` (stays
/// pending), and everything else (an error: sent again, up to 7 times in the day).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// `200`: the handler said [`Fulfilled`](crate::Outcome::Fulfilled), now or earlier, and where a
    /// store remembers, that is durable. (After an attempt that was cut off, `was_granted` or an
    /// operator may say it instead.) Nothing else is a `200`.
    Granted,
    /// `202`: the handler said [`Pending`](crate::Outcome::Pending).
    Pending,
    /// `202`: `data.status` names another state than `pending`, so FirstPromoter has moved on. The
    /// handler was not called.
    NotPending,
    /// `400`: the body broke off or could not be read.
    BodyBroken,
    /// `400`: the body is not JSON.
    NotJson,
    /// `401`: no secret, or a wrong one; or a signature that does not hold.
    Unauthorized,
    /// `405`: not a `POST`.
    MethodNotAllowed,
    /// `408`: the body did not arrive in time.
    BodyTimeout,
    /// `409`: being granted right now, by another delivery or for longer than this one may wait.
    /// The next delivery hears how it ended.
    InProgress,
    /// `413`: the body is over the limit.
    BodyTooLarge,
    /// `415`: the body is not declared as plain JSON: `application/json` or `application/…+json`, and
    /// not compressed.
    UnsupportedMediaType,
    /// `422`: JSON, but not a fulfilment with all that is needed to grant it. Test deliveries end
    /// here, too.
    NotAFulfilment,
    /// `422`: an event of another type.
    OtherEvent,
    /// `500`: the handler said that nothing was granted.
    Failed,
    /// `500`: the handler panicked.
    Panicked,
    /// `500`: an earlier attempt was cut off, and nobody knows whether it granted. The handler was
    /// not called again.
    InDoubt,
    /// `503`: the store could not take down the intention. The handler was not called.
    StoreUnavailable,
    /// `503`: the handler ended, but the store could not take it down.
    NotRecorded,
    /// `503`: as many grants are running as may run at once.
    Overloaded,
    /// `503`: the webhook was closed and takes on no new grants.
    ShuttingDown,
}

impl Verdict {
    /// All of them.
    ///
    /// ```
    /// use tower_firstpromoter::Verdict;
    ///
    /// let granted: Vec<_> = Verdict::ALL.iter().filter(|verdict| verdict.status() == 200).collect();
    /// assert_eq!(granted, [&Verdict::Granted]);
    /// ```
    // A slice: the number of ends is not part of the API, or a new one would break who names it.
    pub const ALL: &'static [Self] = &[
        Self::Granted,
        Self::Pending,
        Self::NotPending,
        Self::BodyBroken,
        Self::NotJson,
        Self::Unauthorized,
        Self::MethodNotAllowed,
        Self::BodyTimeout,
        Self::InProgress,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::NotAFulfilment,
        Self::OtherEvent,
        Self::Failed,
        Self::Panicked,
        Self::InDoubt,
        Self::StoreUnavailable,
        Self::NotRecorded,
        Self::Overloaded,
        Self::ShuttingDown,
    ];

    /// What the sender is told.
    ///
    /// ```
    /// # use tower_firstpromoter::Verdict;
    /// assert_eq!(Verdict::Pending.status(), http::StatusCode::ACCEPTED);
    /// ```
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Granted => StatusCode::OK,
            Self::Pending | Self::NotPending => StatusCode::ACCEPTED,
            Self::BodyBroken | Self::NotJson => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::InProgress => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAFulfilment | Self::OtherEvent => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Failed | Self::Panicked | Self::InDoubt => StatusCode::INTERNAL_SERVER_ERROR,
            Self::StoreUnavailable | Self::NotRecorded | Self::Overloaded | Self::ShuttingDown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// A stable name for logs and metrics, also in the response's body.
    ///
    /// ```
    /// # use tower_firstpromoter::Verdict;
    /// assert_eq!(Verdict::InDoubt.code(), "in_doubt");
    /// ```
    pub const fn code(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Pending => "pending",
            Self::NotPending => "not_pending",
            Self::BodyBroken => "body_broken",
            Self::NotJson => "not_json",
            Self::Unauthorized => "unauthorized",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTimeout => "body_timeout",
            Self::InProgress => "in_progress",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::NotAFulfilment => "not_a_fulfilment",
            Self::OtherEvent => "other_event",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::InDoubt => "in_doubt",
            Self::StoreUnavailable => "store_unavailable",
            Self::NotRecorded => "not_recorded",
            Self::Overloaded => "overloaded",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

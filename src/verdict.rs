use http::StatusCode;

/// How much an end matters to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tracing"), allow(dead_code))]
pub(crate) enum Level {
    /// Routine.
    Info,
    /// An operator may have to act.
    Warn,
    /// An operator has to act.
    Error,
}

/// One row of the table of verdicts.
struct Row {
    status: StatusCode,
    code: &'static str,
    answer: &'static str,
    level: Level,
    log: &'static str,
}

macro_rules! table_of_ends {
    ($(
        $(#[$doc:meta])*
        $variant:ident, $status:ident, $code:literal, $level:ident,
        $message:literal,
        $log:literal;
    )*) => {
        /// How a delivery ended. Each verdict has one status and one code.
        ///
        /// A [`Webhook`](crate::Webhook) puts the verdict into the extensions of its response, for trace
        /// layers, metrics and tests:
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
        /// let ok: Vec<_> = Verdict::ALL.iter().filter(|verdict| verdict.status() == 200).collect();
        /// assert_eq!(ok, [&Verdict::Fulfilled]);
        /// ```
        ///
        /// FirstPromoter distinguishes three answers: `200` (fulfilled, for good), any other `2xx`
        /// (stays pending), and everything else (an error: sent again, up to 7 times throughout the
        /// day).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Verdict {
            $( $(#[$doc])* $variant, )*
        }

        impl Verdict {
            /// Every verdict. See [`Verdict`] for an example.
            // A slice: the number of verdicts is not part of the API.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            const fn row(self) -> Row {
                match self {
                    $( Self::$variant => Row {
                        status: StatusCode::$status,
                        code: $code,
                        answer: concat!(r#"{"code":""#, $code, r#"","message":""#, $message, "\"}\n"),
                        level: Level::$level,
                        log: $log,
                    }, )*
                }
            }
        }
    };
}

// The table from which status, code, answer, log level and log line come. `README.md` repeats it for
// users, and `tests/answers.rs` walks it.
table_of_ends! {
    /// `200`: the handler said [`Fulfilled`](crate::Outcome::Fulfilled), now or earlier, and the
    /// record of it is durable. For a fulfilment in doubt, `was_fulfilled` or an operator may say
    /// so instead. Nothing else is a `200`.
    Fulfilled, OK, "fulfilled", Info,
    "It is fulfilled.",
    "fulfilled, and recorded";
    /// `202`: the handler said [`Pending`](crate::Outcome::Pending).
    Pending, ACCEPTED, "pending", Info,
    "The application left it pending.",
    "left pending by the handler";
    /// `202`: `data.status` is not `pending`. The handler was not called.
    NotPending, ACCEPTED, "not_pending", Info,
    "data.status is not pending.",
    "handler not called: FirstPromoter does not hold it as pending";
    /// `400`: the body ended early or could not be read.
    BodyBroken, BAD_REQUEST, "body_broken", Warn,
    "The body ended early.",
    "refused: the body ended early";
    /// `400`: the body is not JSON.
    NotJson, BAD_REQUEST, "not_json", Warn,
    "The body is not JSON.",
    "refused: the body is not JSON";
    /// `401`: the secret is missing or wrong, or the signature does not match.
    Unauthorized, UNAUTHORIZED, "unauthorized", Warn,
    "The webhook's secret is missing or wrong.",
    "refused: the secret is missing or wrong";
    /// `405`: the method is not `POST`.
    MethodNotAllowed, METHOD_NOT_ALLOWED, "method_not_allowed", Warn,
    "Deliveries are sent by POST.",
    "refused: not a POST";
    /// `408`: the body did not arrive in time.
    BodyTimeout, REQUEST_TIMEOUT, "body_timeout", Warn,
    "The body did not arrive in time.",
    "refused: the body did not arrive in time";
    /// `409`: an attempt is running, of another delivery or for longer than this delivery may wait.
    InProgress, CONFLICT, "in_progress", Info,
    "An attempt is running. Send it again.",
    "an attempt is running; the next delivery gets its verdict";
    /// `413`: the body is larger than the limit.
    BodyTooLarge, PAYLOAD_TOO_LARGE, "body_too_large", Warn,
    "The body is larger than the limit.",
    "refused: the body is larger than the limit";
    /// `415`: the body is not declared as plain JSON: `application/json` or `application/…+json`, and
    /// not compressed.
    UnsupportedMediaType, UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", Warn,
    "The body must be uncompressed application/json.",
    "refused: not declared as plain JSON";
    /// `422`: the body is JSON, but lacks what a fulfilment needs. A test delivery ends here, too.
    NotAFulfilment, UNPROCESSABLE_ENTITY, "not_a_fulfilment", Warn,
    "The body is not a complete fulfilment.",
    "refused: not a complete fulfilment";
    /// `422`: an event of another type.
    OtherEvent, UNPROCESSABLE_ENTITY, "other_event", Info,
    "Only fulfilment_pending events are handled here.",
    "refused: an event of another type";
    /// `500`: the handler returned an error, or was undone: nothing took effect.
    Failed, INTERNAL_SERVER_ERROR, "failed", Error,
    "The attempt failed. Send it again.",
    "failed: nothing took effect";
    /// `500`: the handler panicked.
    Panicked, INTERNAL_SERVER_ERROR, "panicked", Error,
    "The attempt was cut off. Send it again.",
    "the handler panicked";
    /// `500`: an attempt began, and whether it took effect is not known. The handler is not called
    /// again until `was_fulfilled` or an operator resolves it.
    InDoubt, INTERNAL_SERVER_ERROR, "in_doubt", Error,
    "In doubt: whether an earlier attempt took effect must be resolved first.",
    "in doubt: an attempt began, and whether it took effect is not known; resolve it";
    /// `500`: the record of this id names another promoter. Two accounts share a store without
    /// namespaces.
    RecordMismatch, INTERNAL_SERVER_ERROR, "record_mismatch", Error,
    "The record of this id belongs to another promoter.",
    "handler not called: the record names another promoter; two accounts may share the store";
    /// `503`: FirstPromoter's API does not confirm the fulfilment. The handler was not called.
    NotConfirmed, SERVICE_UNAVAILABLE, "not_confirmed", Error,
    "FirstPromoter's API does not confirm it. Send it again.",
    "handler not called: FirstPromoter's API does not confirm the fulfilment";
    /// `503`: the store could not record that an attempt begins. The handler was not called.
    StoreUnavailable, SERVICE_UNAVAILABLE, "store_unavailable", Error,
    "The store is unavailable. Send it again.",
    "handler not called: the store is unavailable";
    /// `503`: the attempt ended, but the store could not record how.
    NotRecorded, SERVICE_UNAVAILABLE, "not_recorded", Error,
    "The end of the attempt could not be recorded. Send it again.",
    "the end of the attempt could not be recorded";
    /// `503`: the limit of attempts that run at once is reached.
    Overloaded, SERVICE_UNAVAILABLE, "overloaded", Error,
    "Too many attempts are running. Send it again.",
    "handler not called: the limit of attempts that run at once is reached";
    /// `503`: the webhook is closed.
    ShuttingDown, SERVICE_UNAVAILABLE, "shutting_down", Warn,
    "The application is shutting down. Send it again.",
    "handler not called: the webhook is closed";
}

impl Verdict {
    /// Returns the status of the answer. See [`Verdict`] for an example.
    pub const fn status(self) -> StatusCode {
        self.row().status
    }

    /// Returns the stable name for logs and metrics, also in the answer's body. See [`Verdict`] for an
    /// example.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The answer's body. FirstPromoter may show its first 1,000 characters to the account's owner.
    pub(crate) const fn answer(self) -> &'static str {
        self.row().answer
    }

    #[cfg_attr(not(feature = "tracing"), allow(dead_code))]
    pub(crate) const fn level(self) -> Level {
        self.row().level
    }

    #[cfg_attr(not(feature = "tracing"), allow(dead_code))]
    pub(crate) const fn log(self) -> &'static str {
        self.row().log
    }
}

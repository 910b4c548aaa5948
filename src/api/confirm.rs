use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::timeout;

use super::{Client, Error};
use crate::{event::Fulfilment, fulfil::Confirm, webhook::Webhook};

/// The longest time for all pages: the sender waits for 15 seconds, the handler runs after this.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

impl Webhook {
    /// Confirms each fulfilment with FirstPromoter before the handler runs.
    ///
    /// The account must hold it as pending, for the same promoter, in the same unit and amount.
    /// Otherwise the delivery ends as [`NotConfirmed`](crate::Verdict::NotConfirmed), also if the
    /// API does not answer within 5 seconds. So whoever has stolen the URL's secret cannot forge a
    /// fulfilment.
    ///
    /// The API is called only when the handler is about to run: duplicates cost no call.
    ///
    /// ```
    /// # use bytes::Bytes; use http_body_util::Full; use std::convert::Infallible;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore};
    /// use tower_firstpromoter::{api, testkit::{Account, Payload}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    /// # let (store, access) = (MemoryStore::new(10), Access::query("key", "at least sixteen bytes")?);
    /// let account = Account::new(); // in production: hyper-util's client
    /// account.add(&Payload::new(1));
    /// let client = api::Client::new(account, "the account's API key")?;
    /// let webhook = Webhook::new(handler, store, access).confirm_with(client);
    ///
    /// let forged = Fulfilment::decode(Payload::new(1).amount(9_999))?;
    /// assert_eq!(webhook.fulfil(forged).await.code(), "not_confirmed");
    /// let real = Fulfilment::decode(Payload::new(1))?;
    /// assert_eq!(webhook.fulfil(real).await.code(), "fulfilled");
    /// # Ok(()) }
    /// ```
    pub fn confirm_with(self, client: Client) -> Self {
        self.set_confirm(Arc::new(client))
    }
}

impl Confirm for Client {
    fn confirm<'a>(&'a self, fulfilment: &'a Fulfilment) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let confirmed = match timeout(CONFIRM_WITHIN, self.find_pending(fulfilment)).await {
                Ok(confirmed) => confirmed,
                Err(_elapsed) => Err(Error::Unavailable("no answer in time".to_owned())),
            };
            confirmed.map_err(|error| error.to_string())
        })
    }
}

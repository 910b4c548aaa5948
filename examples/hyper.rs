//! A hyper server with the webhook in front, for effects that are made elsewhere: the journal is one
//! file, and a fulfilment in doubt is looked up where the effect was made.
//!
//! `PORT` is the port (default: 3000; 0 picks one), `WEBHOOK_KEY` the secret in the webhook's URL,
//! `JOURNAL` the journal's file (default: `fulfilments.redb`), and `COUPONS` a directory (default:
//! `coupons`) that stands in for another company's service, with one file for each coupon.

use std::{
    convert::Infallible,
    env,
    error::Error,
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use futures::FutureExt;
use hyper::{Request, Response, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, signal, task::block_in_place, time::sleep};
use tower::{Layer, service_fn};
use tower_firstpromoter::{
    Access, Fulfil, Outcome, Webhook,
    event::{Fulfilment, Unit},
    store::RedbStore,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let or = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let key = or("WEBHOOK_KEY", "a-key-for-development");
    let coupons = Coupons(or("COUPONS", "coupons").into());
    fs::create_dir_all(&coupons.0)?;
    let journal = RedbStore::open(or("JOURNAL", "fulfilments.redb"))?;

    let webhook = Webhook::new(coupons.clone(), journal, Access::query("key", &key)?);
    let home = service_fn(move |_: Request<Incoming>| {
        let count = fs::read_dir(&coupons.0).map_or(0, Iterator::count);
        async move { Ok::<_, Infallible>(Response::new(format!("{count} coupons\n"))) }
    });
    let app = webhook.clone().at("/webhooks/firstpromoter").layer(home);
    let app = TowerToHyperService::new(app);

    let listener = TcpListener::bind(("127.0.0.1", or("PORT", "3000").parse()?)).await?;
    let stop = stop_signal()?.shared();
    println!("listening on http://{}", listener.local_addr()?);
    if env::var_os("WEBHOOK_KEY").is_none() {
        eprintln!("WEBHOOK_KEY is not set, so the key is: {key}");
    }

    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()); // ends connections that never finish a head
    let connections = GracefulShutdown::new();
    let serve = async {
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        eprintln!("cannot accept a connection: {error}");
                        sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = stop.clone() => break,
            };
            let connection = server.serve_connection(TokioIo::new(stream), app.clone());
            let connection = connections.watch(connection.into_owned());
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    eprintln!("a connection broke: {error}");
                }
            });
        }
        drop(listener);
        connections.shutdown().await;
        webhook.close().await; // waits for running attempts
    };
    // Whatever takes longer to end is cut off, and in doubt.
    let limit = stop.clone().then(|()| sleep(Duration::from_secs(20)));
    tokio::select! { () = serve => {}, () = limit => {} }
    Ok(())
}

/// Another company's coupons, one file each.
#[derive(Clone)]
struct Coupons(PathBuf);

impl Coupons {
    /// Makes a coupon under the fulfilment's own key, whole or not at all.
    fn make(&self, key: &str, text: &str) -> io::Result<()> {
        let draft = self.0.with_extension(key);
        let mut file = fs::File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, self.0.join(key))?;
        fs::File::open(&self.0)?.sync_all()
    }
}

impl Fulfil for Coupons {
    type Error = io::Error;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, io::Error> {
        let Fulfilment { amount, unit, promoter, .. } = &fulfilment;
        let (Unit::FreeMonths | Unit::Credits | Unit::Points) = unit else {
            return Ok(Outcome::Pending); // stays visible in FirstPromoter's dashboard
        };
        if !amount.is_positive() {
            return Err(io::Error::other("not an amount above zero")); // nothing happened
        }
        let text = format!("{amount} {unit} for promoter {}\n", promoter.id);
        let made = block_in_place(|| self.make(&fulfilment.idempotency_key(), &text));
        // An error would say that nothing took effect, and that is not known.
        Ok(made.map_or_else(|error| Outcome::InDoubt(error.to_string()), |()| Outcome::Fulfilled))
    }

    async fn was_fulfilled(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, io::Error> {
        self.0.join(fulfilment.idempotency_key()).try_exists().map(Some)
    }
}

/// Resolves when the process is asked to end, which is listened for from this call on.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    #[cfg(windows)]
    let mut terminate = signal::windows::ctrl_close()?;
    Ok(async move {
        tokio::select! { _ = signal::ctrl_c() => {}, _ = terminate.recv() => {} }
    })
}

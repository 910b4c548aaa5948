//! The postgres example, as behind a load balancer: two processes over one database credit an account
//! once; a database that is down is answered with `503` in time, and nothing is lost by it.

mod support {
    pub(crate) mod example;
    pub(crate) mod postgres;
}

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::support::{
    example::{Answer, Example, KEY},
    postgres::{Server, not_run, story},
};

fn start(url: &str) -> Example {
    let files = TempDir::new().expect("a directory");
    Example::start_with("postgres", files.path(), &[("DATABASE_URL", url), ("WEBHOOK_KEY", KEY)])
}

fn deliver(process: &Example, id: u64, cust_id: &str) -> Answer {
    let body = json!({
        "event": { "type": "fulfilment_pending" },
        "data": {
            "id": id, "amount": 3, "unit": "credits", "promoter": { "id": 7, "cust_id": cust_id }
        }
    });
    process.deliver(body.to_string())
}

fn accounts(process: &Example) -> Value {
    process.send("GET /accounts", &[], "").json()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_credit_once() {
    story(|db| async move {
        tokio::task::block_in_place(|| {
            let processes = [start(&db.url), start(&db.url)];
            for id in 1..=10 {
                let statuses: Vec<_> = thread::scope(|scope| {
                    let sent: Vec<_> = (0..64)
                        .map(|n| {
                            let process = &processes[n % 2];
                            scope.spawn(move || deliver(process, id, "ada").status)
                        })
                        .collect();
                    sent.into_iter().map(|sent| sent.join().expect("an answer")).collect()
                });
                assert!(statuses.contains(&200), "{statuses:?}");
                assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
            }
            assert_eq!(deliver(&processes[0], 11, "").status, 202, "nobody's account");
            let expected = json!({ "ada": 30 });
            assert_eq!(accounts(&processes[0]), expected);

            for process in processes {
                process.signal("-TERM");
                assert!(process.ended_within(Duration::from_secs(30)).success());
            }
            let again = start(&db.url);
            for id in 1..=10 {
                assert_eq!(deliver(&again, id, "ada").status, 200);
            }
            assert_eq!(accounts(&again), expected);
        });
    })
    .await;
}

#[test]
fn a_database_that_is_down_loses_nothing() {
    let server = match Server::start() {
        Ok(server) => server,
        Err(why) => return not_run(&why),
    };
    let process = start(&server.url());
    assert_eq!(deliver(&process, 1, "ada").status, 200);

    server.crash().expect("it stops");
    for id in [1, 2] {
        let sent = Instant::now();
        let answer = deliver(&process, id, "ada");
        assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("store_unavailable")));
        assert!(sent.elapsed() < Duration::from_millis(9_500), "{id}: {:?}", sent.elapsed());
    }

    server.up().expect("it starts again");
    for id in [1, 2, 1, 2] {
        assert_eq!(deliver(&process, id, "ada").status, 200, "{id}");
    }
    assert_eq!(accounts(&process), json!({ "ada": 6 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_does_not_hold_up_the_end() {
    story(|db| async move {
        tokio::task::block_in_place(|| {
            let process = start(&db.url);
            let mut socket = process.connect();
            socket.write_all(b"POST /webhooks/firstpromoter HTTP/1.1\r\nHost: loc").expect("sent");
            thread::sleep(Duration::from_millis(100)); // the server has begun to read
            process.signal("-TERM");
            assert!(process.ended_within(Duration::from_secs(30)).success());
        });
    })
    .await;
}

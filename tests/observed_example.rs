//! The `observed` example runs as a process, deliveries of several kinds arrive over its socket,
//! and its log and its `/metrics` say what became of each, and no secret.

mod support {
    pub(crate) mod example;
}

use support::example::{Example, JSON, KEY};

const FULFILMENT: &str = r#"{"event":{"id":9,"type":"fulfilment_pending"},"data":{"id":2429153,"amount":3,"unit":"credits","promoter":{"id":7,"cust_id":"ada","email":"ada@example.com","auth_token":"2-5P1Shfk2nn"}}}"#;

#[test]
fn the_log_and_the_metrics_tell_what_became_of_each_delivery() {
    let files = tempfile::tempdir().expect("a directory");
    let environment = [("WEBHOOK_KEY", KEY), ("RUST_LOG", "info"), ("NO_COLOR", "1")];
    let app = Example::start_with("observed", files.path(), &environment);
    let deliver = |key: &str, body: &str| {
        app.send(&format!("POST /webhooks/firstpromoter?key={key}"), &[JSON], body).status
    };

    assert_eq!(deliver(KEY, FULFILMENT), 200);
    assert_eq!(deliver(KEY, FULFILMENT), 200);
    assert_eq!(deliver("a-strangers-own-guess", FULFILMENT), 401);
    assert_eq!(deliver(KEY, r#"{"event":{"type":"fulfilment_pending"}}"#), 422);
    let nothing = FULFILMENT.replace("2429153", "5").replace(r#""amount":3"#, r#""amount":0"#);
    assert_eq!(deliver(KEY, &nothing), 500);

    let metrics = app.send("GET /metrics", &[], "");
    assert_eq!(metrics.status, 200);
    for line in [
        r#"firstpromoter_deliveries_total{code="fulfilled",unit="credits"} 2"#,
        r#"firstpromoter_deliveries_total{code="unauthorized",unit="none"} 1"#,
        "firstpromoter_handler_errors_total 1",
        "firstpromoter_in_doubt_total 0",
        r#"firstpromoter_delivery_duration_seconds_bucket{code="fulfilled",le="15"} 2"#,
    ] {
        assert!(metrics.body.lines().any(|found| found == line), "{line} is not in {metrics:?}");
    }

    let log = app.log();
    for (level, of, line, times) in [
        ("INFO", "fulfilment.id=2429153", "observed: credited", 1),
        ("INFO", "outcome=\"fulfilled\"", "fulfilled, and recorded", 2),
        ("WARN", "outcome=\"unauthorized\"", "refused: the secret is missing or wrong", 1),
        ("WARN", "outcome=\"not_a_fulfilment\"", "problem=\"data is missing\"", 1),
        ("ERROR", "fulfilment.id=5", "the handler returned an error exception.message=", 1),
        ("ERROR", "outcome=\"failed\"", "failed: nothing took effect", 1),
    ] {
        let told =
            |found: &&str| found.contains(level) && found.contains(of) && found.contains(line);
        assert_eq!(log.lines().filter(told).count(), times, "{line}: {log}");
    }
    for private in [KEY, "a-strangers-own-guess", "ada@example.com", "2-5P1Shfk2nn"] {
        let seen = log.contains(private) || metrics.body.contains(private);
        assert!(!seen, "{private} was seen");
    }
}

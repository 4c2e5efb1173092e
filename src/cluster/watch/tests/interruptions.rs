//! What ends a list or a watch, and how the stream continues.

use serde_json::json;

use super::{
    script::{Reply, assert_changes, end_of_list, event, list, object, script, status, watch},
    *,
};

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_again() {
    for refusal in [Reply::Open(vec![event("ERROR", &status(410))]), Reply::Whole(410, status(410))] {
        let (_server, client) = script([
            list(&[object("a", 1)], 5, ""),
            refusal,
            list(&[object("b", 6)], 7, ""),
            Reply::Open(vec![event("ADDED", &object("c", 8))]),
        ]);
        let mut changes = watch(&client, false);
        assert_changes(
            &mut changes,
            &[
                "init",
                "applied a",
                "init done",
                "interrupted resume a watch",
                "init",
                "applied b",
                "init done",
                "applied c",
            ],
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_interruption_is_reported_and_the_stream_continues_after_a_growing_pause() {
    let mut replies: Vec<_> = (0..8).map(|_| Reply::Whole(500, status(500))).collect();
    replies.push(list(&[object("a", 1)], 5, ""));
    replies.push(Reply::Whole(500, status(500)));
    replies.push(Reply::Open(vec![event("ADDED", &object("b", 6))]));
    let (_server, client) = script(replies);
    let mut changes = watch(&client, false);
    let mut last = Duration::ZERO;
    for _ in 0..8 {
        assert_changes(&mut changes, &["init"]).await;
        let Some(Change::Interrupted { error, needs_list, pause }) = changes.next().await else {
            panic!("the interruption");
        };
        assert_eq!((error.action(), needs_list), ("list", true));
        assert!(pause >= last.mul_f64(0.8), "{pause:?} after {last:?}");
        assert!((SHORTEST_PAUSE..=LONGEST_PAUSE).contains(&pause), "{pause:?}");
        last = pause;
    }
    assert!(last > LONGEST_PAUSE / 2);
    let begin = Instant::now();
    assert_changes(&mut changes, &["init", "applied a", "init done"]).await;
    assert!(begin.elapsed() >= last);
    // A success ends the series: the next pause is short again.
    let Some(Change::Interrupted { error, needs_list, pause }) = changes.next().await else {
        panic!("the interruption");
    };
    assert_eq!((error.action(), needs_list), ("start a watch", false));
    assert!(pause < 2 * SHORTEST_PAUSE, "{pause:?}");
    assert_changes(&mut changes, &["applied b"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_watch_is_reported_and_the_watch_is_resumed() {
    let (server, client) = script([
        list(&[], 5, ""),
        Reply::Closed(vec![event("ADDED", &object("a", 6)), event("ERROR", &status(500))]),
        Reply::Open(vec![event("ADDED", &object("b", 7))]),
    ]);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "init done", "applied a", "interrupted watch", "applied b"]).await;
    let requests = server.requests.lock();
    assert!(requests[2].contains("resourceVersion=6"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_watch_is_followed_by_a_list_unless_pages_would_be_listed_in_vain() {
    let refused = |code, streaming| async move {
        let listed = || Reply::Closed(vec![event("ADDED", &object("a", 1)), end_of_list(1)]);
        let pages = || list(&[object("a", 1)], 1, "");
        let replies = if streaming {
            [listed(), Reply::Whole(code, status(code)), listed()]
        } else {
            [pages(), Reply::Whole(code, status(code)), pages()]
        };
        let (_server, client) = script(replies);
        let mut changes = watch(&client, streaming);
        assert_changes(&mut changes, &["init", "applied a", "init done"]).await;
        let Some(Change::Interrupted { error, needs_list, .. }) = changes.next().await else {
            panic!("the interruption");
        };
        assert_eq!(error.api_error().unwrap().code(), Some(code));
        if needs_list {
            assert_changes(&mut changes, &["init", "applied a", "init done"]).await;
        }
        needs_list
    };
    assert_eq!((refused(404, true).await, refused(404, false).await), (true, true), "the definition is gone");
    assert_eq!((refused(403, true).await, refused(403, false).await), (true, false));
    assert_eq!((refused(500, true).await, refused(500, false).await), (false, false));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_the_server_closes_is_resumed_at_once() {
    let begin = Instant::now();
    let mut replies = vec![list(&[], 5, "")];
    replies.extend((0..56).map(|_| Reply::Closed(vec![])));
    replies.push(Reply::Open(vec![event("ADDED", &object("a", 6))]));
    let (_server, client) = script(replies);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "init done", "applied a"]).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_every_watch_is_not_flooded() {
    let mut replies = vec![list(&[], 5, "")];
    replies.extend((0..1000).map(|_| Reply::Closed(vec![])));
    let (server, client) = script(replies);
    let mut changes = watch(&client, false);
    let minute = sleep(Duration::from_mins(1));
    tokio::select! {
        () = async { while changes.next().await.is_some() {} } => {}
        () = minute => {}
    }
    let requests = server.requests.lock().len();
    assert!((100..200).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_noticed_within_65_seconds() {
    let begin = Instant::now();
    let (_server, client) =
        script([list(&[], 5, ""), Reply::Open(vec![]), Reply::Open(vec![event("ADDED", &object("a", 6))])]);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "init done", "applied a"]).await;
    assert!(begin.elapsed() <= Duration::from_secs(65));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_never_starts_is_abandoned_at_the_deadline() {
    let (_server, client) = script([
        Reply::Silence,
        list(&[], 5, ""),
        Reply::Silence,
        Reply::Open(vec![event("ADDED", &object("a", 6))]),
    ]);
    let begin = Instant::now();
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "interrupted list"]).await;
    assert!(begin.elapsed() < Duration::from_secs(31));
    assert_changes(&mut changes, &["init", "init done", "interrupted start a watch"]).await;
    assert!(begin.elapsed() < Duration::from_secs(63));
    assert_changes(&mut changes, &["applied a"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stalls_is_abandoned_at_the_deadline() {
    let (_server, client) = script([Reply::Open(vec![]), list(&[], 5, "")]);
    let begin = Instant::now();
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "interrupted list"]).await;
    assert!(begin.elapsed() < Duration::from_secs(31));
    assert_changes(&mut changes, &["init", "init done"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_cannot_be_decoded_is_not_quoted_in_the_error() {
    let (_server, client) = script([
        list(&[], 5, ""),
        Reply::Open(vec![json!("the-secret-link"), event("ADDED", &object("a", 6))]),
    ]);
    let mut changes = watch(&client, false);
    assert_changes(&mut changes, &["init", "init done"]).await;
    let Some(Change::Interrupted { error, .. }) = changes.next().await else {
        panic!("the interruption");
    };
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    assert_changes(&mut changes, &["applied a"]).await;
}

#[test]
fn a_watch_that_lasted_ends_a_series_of_failures() {
    let mut pause = Pause::default();
    let begin = Instant::now();
    for _ in 0..9 {
        pause.grow(begin, 1.0);
    }
    assert_eq!(pause.grow(begin, 1.0), LONGEST_PAUSE);
    let later = begin + Duration::from_secs(61);
    assert_eq!(pause.grow(later, 1.0), SHORTEST_PAUSE);
}

use super::*;
use crate::portal::error::Certainty;

const CALLS: [Call; 2] = [Call::Create, Call::Poll];
const MINUTE: Option<Duration> = Some(Duration::from_mins(1));

/// The same table again, written as ranges of codes independently of the code under test.
fn expected(status: u16, retry_after: Option<Duration>, is_from_the_portal: bool) -> Result<(), PortalError> {
    if status < 200 {
        return Err(PortalError::Failed(Failed::UnknownStatus(status)));
    }
    if status < 204 {
        return Ok(());
    }
    Err(match status {
        204..=299 => PortalError::Failed(Failed::Unusable),
        300..=399 => PortalError::Redirected,
        407 => PortalError::Unclear { status },
        408 | 499 => PortalError::Failed(Failed::TimedOut),
        429 => PortalError::Limited { retry_after },
        400..=498 if !is_from_the_portal => PortalError::Unclear { status },
        401 => PortalError::KeyRejected,
        403 => PortalError::AccessDenied,
        404 | 410 => PortalError::NotFound,
        409 => PortalError::Conflict,
        400..=498 => PortalError::Invalid,
        503 if retry_after.is_some() => PortalError::Limited { retry_after },
        500..=599 => PortalError::Failed(Failed::ServerError(status)),
        _ => PortalError::Failed(Failed::UnknownStatus(status)),
    })
}

/// Bodies of the portal.
const FROM_THE_PORTAL: [&[u8]; 7] = [
    b"{}",
    b" \n{\"message\":\"anything\"}",
    br#"{"error":"Invalid API key provided","code":"INVALID_API_KEY"}"#,
    b"Invalid API key provided",
    b"<p>API key does not have access to this verification.</p>",
    b"\"INVALID_API_KEY\"",
    br#"{"error":{"deep":[[[[1]]]]}}"#,
];

/// Bodies of gateways, and no body.
const FROM_OTHERS: [&[u8]; 9] = [
    b"",
    b"<html><title>Just a moment...</title></html>",
    b"default backend - 404",
    b"Unauthorized",
    br#"["Forbidden"]"#,
    br#""Forbidden""#,
    br#"{"message":"cut o"#,
    b"{\"one\":1} {\"two\":2}",
    b"the invalid api keys",
];

#[test]
fn every_status_of_both_calls_is_classified_by_who_sent_it() {
    let bodies =
        FROM_THE_PORTAL.map(|body| (body, true)).into_iter().chain(FROM_OTHERS.map(|body| (body, false)));
    for (body, is_from_the_portal) in bodies {
        for (status, call) in (100..=999).flat_map(|status| CALLS.map(|call| (status, call))) {
            for retry_after in [None, MINUTE] {
                assert_eq!(
                    classify_status(call, status, retry_after, body),
                    expected(status, retry_after, is_from_the_portal),
                    "{call:?} {status} {}",
                    body.escape_ascii()
                );
            }
        }
    }
}

#[test]
fn an_error_comes_from_the_portal_or_an_intermediary_or_is_unclear() {
    for status in 400..=599_u16 {
        for body in FROM_THE_PORTAL {
            let sender = if status == 407 { Provenance::Intermediary } else { Provenance::Portal };
            assert_eq!(Provenance::of(status, body), sender, "{status} {}", body.escape_ascii());
        }
        let other =
            if status == 407 || status >= 500 { Provenance::Intermediary } else { Provenance::Unclear };
        for body in FROM_OTHERS {
            assert_eq!(Provenance::of(status, body), other, "{status} {}", body.escape_ascii());
        }
    }
}

#[test]
fn only_the_portal_says_anything_about_key_session_or_image() {
    for status in 300..=999 {
        for (body, retry_after) in FROM_OTHERS.into_iter().flat_map(|body| [(body, None), (body, MINUTE)]) {
            let error = classify_status(Call::Poll, status, retry_after, body).unwrap_err();
            assert!(!error.is_from_the_portal(), "{status} {error:?}");
        }
    }
    assert!(classify_status(Call::Poll, 404, None, b"{}").unwrap_err().is_from_the_portal());
}

#[test]
fn only_a_response_that_rules_out_a_session_lets_a_create_be_repeated() {
    for status in 100..=999_u16 {
        for (retry_after, body) in
            [(None, FROM_OTHERS[0]), (MINUTE, FROM_OTHERS[0]), (None, FROM_THE_PORTAL[0])]
        {
            let Err(error) = classify_status(Call::Create, status, retry_after, body) else {
                continue;
            };
            let ruled_out = matches!(status, 300..=499) && !matches!(status, 408 | 499)
                || status == 503 && retry_after.is_some();
            let certainty = if ruled_out { Certainty::NotCreated } else { Certainty::Unknown };
            assert_eq!(error.certainty(), certainty, "{status}");
        }
    }
}

#[test]
fn a_portal_that_is_not_configured_is_recognized_with_any_error_status() {
    let bodies: [&[u8]; 5] = [
        br#"{"error":"Server not configured"}"#,
        br#"{"code":"SERVER_NOT_CONFIGURED","message":"x"}"#,
        b"server not configured",
        b"<h1>Server Not Configured</h1>",
        b"subserver not configured; Server not configured.",
    ];
    for body in bodies {
        for status in (400..=599).filter(|status| !matches!(status, 407 | 429)) {
            assert_eq!(
                classify_status(Call::Create, status, MINUTE, body),
                Err(PortalError::Unconfigured),
                "{status}"
            );
        }
        assert_eq!(
            classify_status(Call::Poll, 429, None, body),
            Err(PortalError::Limited { retry_after: None })
        );
        assert_eq!(classify_status(Call::Create, 200, None, body), Ok(()));
        assert_eq!(classify_status(Call::Create, 302, None, body), Err(PortalError::Redirected));
    }
}

#[test]
fn similar_phrases_do_not_mean_a_missing_configuration() {
    let bodies: [&[u8]; 5] = [
        b"",
        b"server is not configured",
        b"webserver not configured",
        b"SERVER_NOT_CONFIGURED_YET",
        b"server not configure",
    ];
    for body in bodies {
        assert_eq!(
            classify_status(Call::Create, 500, None, body),
            Err(PortalError::Failed(Failed::ServerError(500))),
            "{}",
            body.escape_ascii()
        );
    }
}

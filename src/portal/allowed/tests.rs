use proptest::prelude::*;

use super::*;

fn only_the_default() -> AllowedPortals {
    AllowedPortals::new([DEFAULT_PORTAL], false).unwrap()
}

#[test]
fn the_allowed_portal_is_permitted_in_its_harmless_spellings() {
    for spelling in [
        "https://verify.test.okid.io",
        "https://verify.test.okid.io/",
        "https://verify.test.okid.io:443",
        "https://verify.test.okid.io:443/",
        "HTTPS://Verify.TEST.okid.io",
        "https://verify.test.okid.io//",
    ] {
        assert_eq!(only_the_default().permit(spelling).unwrap().as_str(), DEFAULT_PORTAL, "{spelling}");
    }
}

#[test]
fn every_other_spelling_is_refused() {
    for spelling in [
        "",
        "verify.test.okid.io",
        "//verify.test.okid.io",
        "https:verify.test.okid.io",
        "https:/verify.test.okid.io",
        "https:///verify.test.okid.io",
        "https:\\\\verify.test.okid.io",
        "http://verify.test.okid.io",
        "ftp://verify.test.okid.io",
        "file:///etc/passwd",
        "javascript://verify.test.okid.io",
        "https://",
        "https://:443",
        "https://verify.test.okid.io.",
        "https://verify.test.okid.io:8443",
        "https://verify.test.okid.io:0443",
        "https://verify.test.okid.io:",
        "https://verify.test.okid.io:0",
        "https://verify.test.okid.io:99999",
        "https://user@verify.test.okid.io",
        "https://user:pass@verify.test.okid.io",
        "https://verify.test.okid.io@evil.example",
        "https://verify.test.okid.io:443@evil.example",
        "https://verify.test.okid.io#@evil.example",
        "https://evil.example#verify.test.okid.io",
        "https://evil.example?verify.test.okid.io",
        "https://evil.example/verify.test.okid.io",
        "https://verify.test.okid.io.evil.example",
        "https://evil-verify.test.okid.io",
        "https://test.okid.io",
        "https://verify.test.okid.io\\.evil.example",
        "https://verify.test.okid.io\\@evil.example",
        "https://verify%2etest.okid.io",
        "https://verify.test.okid.io%00.evil.example",
        "https://verify.test.okid.io?x=1",
        "https://verify.test.okid.io/?x",
        "https://verify.test.okid.io/#x",
        "https://verify.test.okid.io/api",
        "https://verify.test.okid.io/.",
        "https://verify.test.okid.io/..",
        "https://verify.test.okid.io/%2e%2e",
        " https://verify.test.okid.io",
        "https://verify.test.okid.io ",
        "https://verify.test.okid.io\n",
        "https://veri\tfy.test.okid.io",
        "ht\ntps://verify.test.okid.io",
        "https://verify.test.okid.io\0",
        "https://vérify.test.okid.io",
        "https://ｖerify.test.okid.io",
        "https://verify。test。okid。io",
        "https://verify.test.oĸid.io",
        "https://xn--vrify-bsa.test.okid.io",
        "https://verify.test.okid.io\u{ad}",
        "https://169.254.169.254",
        "https://[fd00:ec2::254]",
        "https://metadata.google.internal",
        "https://127.0.0.1",
        "https://localhost",
        "https://[::1]",
        "https://[::ffff:169.254.169.254]",
        "https://0251.0376.0251.0376",
        "https://0xa9fea9fe",
        "https://2852039166",
        "https://127.1",
        "https://0",
        "https://kubernetes.default.svc",
    ] {
        assert_eq!(only_the_default().permit(spelling), Err(NotAllowed), "{spelling:?}");
    }
}

#[test]
fn an_address_is_only_allowed_in_its_shortest_spelling() {
    let list = AllowedPortals::new(["http://127.0.0.1:8080", "https://[2001:db8::1]/portal/"], true).unwrap();
    assert!(list.permit("http://127.0.0.1:8080/").is_ok());
    assert!(list.permit("https://[2001:DB8::1]:443/portal").is_ok());
    for spelling in [
        "http://127.1:8080",
        "http://0177.0.0.1:8080",
        "http://0x7f.0.0.1:8080",
        "http://2130706433:8080",
        "http://127.0.0.1.:8080",
        "http://[::ffff:127.0.0.1]:8080",
        "http://127.0.0.1",
        "https://127.0.0.1:8080",
        "https://[2001:db8:0::1]/portal",
        "https://[2001:db8::1]",
        "https://[2001:db8::1]/Portal",
        "https://[2001:db8::1%25eth0]/portal",
        "https://[2001:db8::1/portal",
    ] {
        assert_eq!(list.permit(spelling), Err(NotAllowed), "{spelling}");
    }
}

#[test]
fn a_list_that_cannot_be_used_says_what_to_do() {
    let sentence = |list: &[&str]| AllowedPortals::new(list, false).unwrap_err().to_string();
    assert_eq!(
        sentence(&[DEFAULT_PORTAL, "http://portal.example"]),
        "entry 2 of the allowed portals is no address of a portal: start with https://, or give --allow-plain-http"
    );
    assert!(sentence(&["portal.example"]).ends_with("start with https://"));
    assert!(sentence(&[""]).ends_with("write 1 to 256 characters"));
    assert!(sentence(&["https://portal.example/a?b"]).contains("in the path"));
    assert!(!sentence(&["https://user:canary@portal.example"]).contains("canary"));
    let long = format!("https://portal.example/{}", "a".repeat(PortalUrl::MAX_CHARS));
    assert!(AllowedPortals::new([long], false).is_err());
}

#[test]
fn an_empty_list_allows_nothing() {
    let list = AllowedPortals::new(Vec::<String>::new(), true).unwrap();
    assert_eq!(list.permit(DEFAULT_PORTAL), Err(NotAllowed));
}

#[test]
fn links_are_those_of_the_guide() {
    let portal = only_the_default().permit(DEFAULT_PORTAL).unwrap();
    let id = VerificationId::parse("xyz").unwrap();
    assert_eq!(portal.link(&id, LinkMode::Direct, "/"), "https://verify.test.okid.io/?verification_id=xyz");
    assert_eq!(
        portal.link(&id, LinkMode::Select, "/"),
        "https://verify.test.okid.io/?verification_id=xyz&mode=select"
    );
    assert_eq!(
        portal.link(&id, LinkMode::Direct, "verify"),
        "https://verify.test.okid.io/verify?verification_id=xyz"
    );
    let below = AllowedPortals::new(["https://portal.example/okid/"], false)
        .unwrap()
        .permit("https://portal.example/okid")
        .unwrap();
    assert_eq!(below.link(&id, LinkMode::Direct, "/"), "https://portal.example/okid/?verification_id=xyz");
    assert_eq!(below.details_url(&id), "https://portal.example/okid/api/get-verification-details/xyz");
    assert_eq!(below.create_url(), "https://portal.example/okid/api/generate-verification");
}

proptest! {
    #[test]
    fn what_is_permitted_is_what_a_url_parser_reads(text in "https?://[a-z0-9.:@\\[\\]%/\\\\?#-]{0,24}") {
        if let Ok(portal) = PortalUrl::parse(&text, true) {
            let url = Url::parse(&text).unwrap();
            prop_assert_eq!(Url::parse(portal.as_str()).unwrap().origin(), url.origin());
            prop_assert!(url.username().is_empty() && url.query().is_none() && url.fragment().is_none());
            prop_assert_eq!(PortalUrl::parse(portal.as_str(), true), Ok(portal));
        }
    }
}

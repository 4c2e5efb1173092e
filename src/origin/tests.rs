use proptest::prelude::*;

use super::*;

const PORTAL: &str = "https://verify.test.okid.io";

fn one_entry() -> AllowList<BaseUrl> {
    AllowList::parse([PORTAL], false).unwrap()
}

#[test]
fn an_entry_is_permitted_in_its_harmless_spellings() {
    for spelling in [
        "https://verify.test.okid.io",
        "https://verify.test.okid.io/",
        "https://verify.test.okid.io:443",
        "https://verify.test.okid.io:443/",
        "HTTPS://Verify.TEST.okid.io",
        "https://verify.test.okid.io//",
    ] {
        assert_eq!(one_entry().permit(spelling).unwrap().as_str(), PORTAL, "{spelling}");
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
        assert_eq!(one_entry().permit(spelling), None, "{spelling:?}");
    }
}

#[test]
fn an_address_is_only_allowed_in_its_shortest_spelling() {
    let list = AllowList::<BaseUrl>::parse(["http://127.0.0.1:8080", "https://[2001:db8::1]/portal/"], true)
        .unwrap();
    assert!(list.permit("http://127.0.0.1:8080/").is_some());
    assert!(list.permit("https://[2001:DB8::1]:443/portal").is_some());
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
        assert_eq!(list.permit(spelling), None, "{spelling}");
    }
}

#[test]
fn an_unusable_list_is_refused_with_advice() {
    let sentence = |list: &[&str]| {
        let InvalidEntry { position, reason } = AllowList::<BaseUrl>::parse(list, false).unwrap_err();
        format!("entry {position}: {reason}")
    };
    assert_eq!(
        sentence(&[PORTAL, "http://portal.example"]),
        "entry 2: start with https://, or set --allow-plain-http"
    );
    assert_eq!(sentence(&["portal.example"]), "entry 1: start with https://");
    assert_eq!(sentence(&[""]), "entry 1: write 1 to 256 characters");
    assert!(sentence(&["https://portal.example/a?b"]).contains("in the path"));
    assert!(!sentence(&["https://user:canary@portal.example"]).contains("canary"));
    let long = format!("https://portal.example/{}", "a".repeat(BaseUrl::MAX_CHARS));
    assert!(AllowList::<BaseUrl>::parse([long], false).is_err());
}

#[test]
fn an_empty_list_allows_nothing() {
    let list = AllowList::<BaseUrl>::parse(Vec::<String>::new(), true).unwrap();
    assert_eq!(list.permit(PORTAL), None);
}

proptest! {
    #[test]
    fn a_permitted_url_is_the_one_that_a_url_parser_reads(text in "https?://[a-z0-9.:@\\[\\]%/\\\\?#-]{0,24}") {
        if let Ok(portal) = BaseUrl::parse(&text, true) {
            let url = Url::parse(&text).unwrap();
            prop_assert_eq!(Url::parse(portal.as_str()).unwrap().origin(), url.origin());
            prop_assert!(url.username().is_empty() && url.query().is_none() && url.fragment().is_none());
            prop_assert_eq!(BaseUrl::parse(portal.as_str(), true), Ok(portal));
        }
    }
}

use super::*;

fn default_portal() -> PortalUrl {
    AllowedPortals::new([DEFAULT_PORTAL], false).unwrap().permit(DEFAULT_PORTAL).unwrap()
}

#[test]
fn an_invalid_entry_is_reported_by_position_with_advice() {
    let sentence = |list: &[&str]| AllowedPortals::new(list, false).unwrap_err().to_string();
    assert_eq!(
        sentence(&[DEFAULT_PORTAL, "http://portal.example"]),
        "entry 2 of the allowed portals is not a valid portal URL: start with https://, or set --allow-plain-http"
    );
    assert!(!sentence(&["https://user:canary@portal.example"]).contains("canary"));
}

#[test]
fn a_portal_that_is_not_on_the_list_is_refused() {
    let allowed = AllowedPortals::new([DEFAULT_PORTAL], false).unwrap();
    assert_eq!(allowed.permit("https://evil.example"), Err(NotAllowed));
    assert_eq!(allowed.permit("http://verify.test.okid.io"), Err(NotAllowed));
}

#[test]
fn links_are_those_of_the_guide() {
    let portal = default_portal();
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

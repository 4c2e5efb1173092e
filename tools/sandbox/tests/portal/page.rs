//! The page, clicked through by its forms.

use okid_sandbox::Progress;

use crate::Scene;

impl Scene {
    async fn page(&self, path: &str) -> (u16, String) {
        let response = self.client.get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Submits a form as the page's buttons do, and follows the redirect.
    async fn click(&self, id: &str, fields: &[(&str, &str)]) -> String {
        let mut form = vec![("verification_id", id)];
        form.extend_from_slice(fields);
        let response = self.client.post(self.url("/")).form(&form).send().await.unwrap();
        assert_eq!(response.status(), 303);
        let to = response.headers()["location"].to_str().unwrap().to_owned();
        self.page(&to).await.1
    }
}

#[tokio::test]
async fn a_person_clicks_through_to_the_verdict() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    let (status, page) = scene.page(&format!("/?verification_id={id}")).await;
    assert_eq!(status, 200);
    assert!(page.contains("I accept the terms of service"));
    assert_eq!(scene.session_status(&id).await, "initiated");
    let page = scene.click(&id, &[("module", "terms")]).await;
    assert!(page.contains("name=\"document\" value=\"passport\""));
    let page =
        scene.click(&id, &[("module", "document"), ("document", "passport"), ("outcome", "fail")]).await;
    assert!(page.contains("try again"));
    scene.click(&id, &[("module", "document"), ("document", "id_card")]).await;
    scene.click(&id, &[("module", "liveness")]).await;
    let page = scene.click(&id, &[("module", "form_data")]).await;
    assert_eq!(scene.session_status(&id).await, "validating");
    for verdict in ["verified", "rejected", "needs_manual_review", "expired"] {
        assert!(page.contains(&format!("name=\"verdict\" value=\"{verdict}\"")), "{verdict}");
    }
    scene.click(&id, &[("verdict", "needs_manual_review")]).await;
    assert_eq!(scene.session_status(&id).await, "needs_manual_review");
    let page = scene.click(&id, &[("verdict", "verified")]).await;
    assert!(page.contains("Your identity is verified"));
    assert!(!page.contains("<form"));
    let session = scene.sandbox.session(&id).unwrap();
    assert_eq!(session.attempts, 2);
    assert!(session.progress.iter().all(|(_, progress)| *progress == Progress::Completed));
}

#[tokio::test]
async fn the_selection_shows_a_code_and_a_link_and_starts_nothing() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    let (status, page) = scene.page(&format!("/?verification_id={id}&mode=select")).await;
    assert_eq!(status, 200);
    assert!(page.contains("<svg"));
    assert!(page.contains(&format!("href=\"/?verification_id={id}\"")));
    assert_eq!(scene.session_status(&id).await, "generated");
}

#[tokio::test]
async fn the_path_of_the_sample_journey_also_works() {
    let scene = Scene::new().await;
    let id = scene.created().await;
    assert_eq!(scene.page(&format!("/verify?verification_id={id}")).await.0, 200);
    assert_eq!(scene.page("/verify?verification_id=ver_none").await.0, 404);
    assert_eq!(scene.page("/").await.0, 200);
}

#[tokio::test]
async fn the_content_of_a_link_is_not_written_into_the_page() {
    let scene = Scene::new().await;
    let (status, page) = scene.page("/?verification_id=%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert_eq!(status, 404);
    assert!(!page.contains("<script"));
}

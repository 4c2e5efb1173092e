//! The text of a kubeconfig file. Pure.

use std::path::Path;

/// The name of the only context, as it stands in the text.
pub(crate) const CONTEXT: &str = "control-plane";

/// A kubeconfig with one user, who has a token, and one server, whose certificate the certificate in the file `authority`
/// has signed.
pub(crate) fn kubeconfig(server: &str, authority: &Path, user: &str, token: &str) -> String {
    let authority = quoted(&authority.to_string_lossy());
    let (server, user, token) = (quoted(server), quoted(user), quoted(token));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: control-plane
  cluster:
    server: {server}
    certificate-authority: {authority}
users:
- name: {user}
  user:
    token: {token}
contexts:
- name: {CONTEXT}
  context:
    cluster: control-plane
    user: {user}
current-context: {CONTEXT}
"
    )
}

/// A YAML scalar in single quotes, within which only the quote is special.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_name_does_not_end_the_name() {
        assert_eq!(quoted("o'neill: #1"), "'o''neill: #1'");
    }
}

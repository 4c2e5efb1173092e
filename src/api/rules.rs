//! The CEL rules: what the API server refuses, and the message it refuses it with.
//!
//! Rules that keep a field from changing belong to the object that holds the field, not to the field itself: a rule on an
//! optional field is not evaluated when the field is removed.

/// A rule for one object of the schema.
pub(super) struct Rule {
    /// The object that the rule belongs to, as property names from the root of the schema.
    pub(super) path: &'static [&'static str],
    /// The CEL expression.
    pub(super) expression: &'static str,
    /// The API server's message when the expression is false.
    pub(super) message: &'static str,
    /// The field that the API server names in its response, relative to `path`.
    pub(super) field_path: Option<&'static str>,
}

/// Every rule of the resource.
pub(super) const RULES: &[Rule] = &[
    Rule {
        path: &[],
        expression: "!(has(oldSelf.status) && has(oldSelf.status.settled) && oldSelf.status.settled) || self.spec == oldSelf.spec",
        message: "this Verification is settled and no longer watched, so its spec cannot change; create a new Verification",
        field_path: Some(".spec"),
    },
    Rule {
        path: &[],
        expression: "!has(self.spec.adopt) || has(oldSelf.spec.adopt) || !has(self.status) || !has(self.status.verificationId)",
        message: "adopt can be added only before a verificationId is published; this Verification already follows a session, so create a new one",
        field_path: Some(".spec.adopt"),
    },
    Rule {
        path: &[],
        expression: "!has(self.spec.adopt) || has(oldSelf.spec.adopt) || !has(self.status) || !has(self.status.session) || !has(self.status.session.state) || self.status.session.state != 'Claimed'",
        message: "adopt cannot be added while a create is in flight, because that create may make a session; try again when status.session.state is no longer Claimed",
        field_path: Some(".spec.adopt"),
    },
    Rule {
        path: &["spec"],
        expression: "!has(oldSelf.adopt) || (has(self.adopt) && self.adopt == oldSelf.adopt)",
        message: "adopt cannot change once it is set; create a new Verification to follow another session",
        field_path: Some(".adopt"),
    },
    Rule {
        path: &["spec"],
        expression: "has(self.portal) == has(oldSelf.portal) && (!has(self.portal) || self.portal == oldSelf.portal)",
        message: "portal cannot be changed, added or removed; create a new Verification to use another portal",
        field_path: Some(".portal"),
    },
    Rule {
        path: &["spec", "apiKeySecretRef"],
        expression: "!has(self.previousKey) || self.previousKey != self.key",
        message: "previousKey must name another entry of the Secret than key",
        field_path: Some(".previousKey"),
    },
    Rule {
        path: &["spec", "portal"],
        expression: "isURL(self) && (self.startsWith('https://') || self.startsWith('http://'))",
        message: "portal must be a URL such as https://verify.test.okid.io",
        field_path: None,
    },
    Rule {
        path: &["spec", "activeDeadline"],
        expression: "duration(self) >= duration('1s') && duration(self) <= duration('8760h')",
        message: "activeDeadline must be from 1s to 8760h, such as 168h",
        field_path: None,
    },
    Rule {
        path: &["spec", "ttlAfterFinished"],
        expression: "duration(self) <= duration('8760h')",
        message: "ttlAfterFinished must be from 0s to 8760h, such as 24h",
        field_path: None,
    },
    Rule {
        path: &["spec", "polling", "minInterval"],
        expression: "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        message: "minInterval must be from 1s to 1h, such as 5s",
        field_path: None,
    },
    Rule {
        path: &["spec", "polling", "maxInterval"],
        expression: "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        message: "maxInterval must be from 1s to 1h, such as 5m",
        field_path: None,
    },
    Rule {
        path: &["spec", "polling"],
        expression: "!has(self.minInterval) || !has(self.maxInterval) || duration(self.minInterval) <= duration(self.maxInterval)",
        message: "minInterval must not be longer than maxInterval",
        field_path: Some(".minInterval"),
    },
    Rule {
        path: &["spec", "evidence"],
        expression: "(has(self.images) && size(self.images) > 0) || (has(self.results) && self.results)",
        message: "evidence asks for nothing: list images, or set results to true",
        field_path: None,
    },
    Rule {
        path: &["spec", "evidence"],
        expression: "!has(self.images) || self.images.all(a, self.images.exists_one(b, a.kind == b.kind && a.imageType == b.imageType && (has(a.attemptIndex) ? a.attemptIndex : 0) == (has(b.attemptIndex) ? b.attemptIndex : 0)))",
        message: "images lists the same image twice; each kind, imageType and attemptIndex can appear once",
        field_path: Some(".images"),
    },
    Rule {
        path: &["spec", "evidence"],
        expression: "!has(self.images) || self.images.all(image, !has(image.attemptIndex) || image.kind == 'Redacted' || image.kind == 'Unredacted')",
        message: "attemptIndex is only for the kinds Redacted and Unredacted; the portal has one Front and one Back",
        field_path: Some(".images"),
    },
    Rule {
        path: &["spec", "evidence", "destination"],
        expression: "has(self.url) != has(self.store)",
        message: "a destination has either a url with credentialsSecretRef or the name of a store",
        field_path: None,
    },
    Rule {
        path: &["spec", "evidence", "destination"],
        expression: "has(self.url) == has(self.credentialsSecretRef)",
        message: "a url needs credentialsSecretRef, a Secret of this namespace; a store has its own credentials",
        field_path: None,
    },
    Rule {
        path: &["spec", "evidence", "destination", "url"],
        expression: "!self.contains('/../') && !self.contains('/./') && !self.endsWith('/..') && !self.endsWith('/.')",
        message: "the path of a url must not contain a . or .. segment",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.verificationId) || (has(self.verificationId) && self.verificationId == oldSelf.verificationId)",
        message: "verificationId is written once and never changes",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.outcome) || (has(self.outcome) && self.outcome == oldSelf.outcome)",
        message: "outcome is written once and never changes",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.finishedAt) || (has(self.finishedAt) && self.finishedAt == oldSelf.finishedAt)",
        message: "finishedAt is written once and never changes",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.settled) || !oldSelf.settled || (has(self.settled) && self.settled)",
        message: "settled never becomes false again",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(self.settled) || !self.settled || has(self.outcome)",
        message: "settled requires an outcome",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.session) || !has(oldSelf.session.attempt) || (has(self.session) && has(self.session.attempt) && self.session.attempt >= oldSelf.session.attempt)",
        message: "session.attempt never decreases",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.session) || !has(oldSelf.session.orphans) || (has(self.session) && has(self.session.orphans) && self.session.orphans >= oldSelf.session.orphans)",
        message: "session.orphans never decreases",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.session) || !has(oldSelf.session.acknowledged) || (has(self.session) && has(self.session.acknowledged) && self.session.acknowledged >= oldSelf.session.acknowledged)",
        message: "session.acknowledged never decreases",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.verificationId) || !has(oldSelf.session) || !has(oldSelf.session.portal) || (has(self.session) && has(self.session.portal) && self.session.portal == oldSelf.session.portal)",
        message: "session.portal never changes once verificationId is published",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.conditions) || !oldSelf.conditions.exists(c, c.type == 'Finished' && c.status == 'True') || (has(self.conditions) && self.conditions.exists(c, c.type == 'Finished' && c.status == 'True'))",
        message: "the condition Finished never changes once it is True",
        field_path: None,
    },
    Rule {
        path: &["status"],
        expression: "!has(oldSelf.conditions) || !oldSelf.conditions.exists(c, c.type == 'Verified' && c.status != 'Unknown') || (has(self.conditions) && self.conditions.exists(c, c.type == 'Verified' && c.status == oldSelf.conditions.filter(o, o.type == 'Verified')[0].status))",
        message: "the condition Verified never changes once it is True or False",
        field_path: None,
    },
    Rule {
        path: &["status", "session"],
        expression: "!has(self.orphans) || (has(self.attempt) && self.orphans <= self.attempt)",
        message: "session.orphans cannot exceed session.attempt",
        field_path: None,
    },
    Rule {
        path: &["status", "session"],
        expression: "!has(self.acknowledged) || (has(self.orphans) && self.acknowledged <= self.orphans)",
        message: "session.acknowledged cannot exceed session.orphans",
        field_path: None,
    },
    Rule {
        path: &["status", "progress"],
        expression: "self.all(name, size(name) <= 64)",
        message: "a module's name has at most 64 characters",
        field_path: None,
    },
];

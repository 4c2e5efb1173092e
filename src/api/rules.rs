//! The CEL rules: what the API server refuses, and the sentence it refuses it with.
//!
//! Rules that keep a field from changing stand on the object that holds the field, not on the field: a rule on an
//! optional field is not asked when the field is removed.

/// A rule for one place of the schema.
pub(super) struct Rule {
    /// The object it stands on, as property names from the root of the schema.
    pub(super) at: &'static [&'static str],
    /// The CEL expression.
    pub(super) holds: &'static str,
    /// What the API server says when it does not hold.
    pub(super) message: &'static str,
    /// The field the API server names in its answer, relative to `at`.
    pub(super) field_path: Option<&'static str>,
}

/// Every rule of the resource.
pub(super) const RULES: &[Rule] = &[
    Rule {
        at: &[],
        holds: "!(has(oldSelf.status) && has(oldSelf.status.settled) && oldSelf.status.settled) || self.spec == oldSelf.spec",
        message: "this Verification is over and nobody looks at it any more, so its spec cannot change; create a new Verification",
        field_path: Some(".spec"),
    },
    Rule {
        at: &[],
        holds: "!has(self.spec.adopt) || has(oldSelf.spec.adopt) || !has(self.status) || !has(self.status.verificationId)",
        message: "adopt can be added only while no verificationId is published; this Verification follows a session already, create a new one",
        field_path: Some(".spec.adopt"),
    },
    Rule {
        at: &[],
        holds: "!has(self.spec.adopt) || has(oldSelf.spec.adopt) || !has(self.status) || !has(self.status.session) || !has(self.status.session.state) || self.status.session.state != 'Claimed'",
        message: "adopt cannot be added while a create is in flight, which may make a session of its own; try again when status.session.state is no longer Claimed",
        field_path: Some(".spec.adopt"),
    },
    Rule {
        at: &["spec"],
        holds: "!has(oldSelf.adopt) || (has(self.adopt) && self.adopt == oldSelf.adopt)",
        message: "adopt is fixed once it is set; create a new Verification to follow another session",
        field_path: Some(".adopt"),
    },
    Rule {
        at: &["spec"],
        holds: "has(self.portal) == has(oldSelf.portal) && (!has(self.portal) || self.portal == oldSelf.portal)",
        message: "portal cannot be changed, added or removed; create a new Verification to use another portal",
        field_path: Some(".portal"),
    },
    Rule {
        at: &["spec", "portal"],
        holds: "isURL(self) && (self.startsWith('https://') || self.startsWith('http://'))",
        message: "portal must be a URL such as https://verify.test.okid.io",
        field_path: None,
    },
    Rule {
        at: &["spec", "activeDeadline"],
        holds: "duration(self) >= duration('1s') && duration(self) <= duration('8760h')",
        message: "activeDeadline must be from 1s to 8760h, such as 168h",
        field_path: None,
    },
    Rule {
        at: &["spec", "polling", "minInterval"],
        holds: "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        message: "minInterval must be from 1s to 1h, such as 5s",
        field_path: None,
    },
    Rule {
        at: &["spec", "polling", "maxInterval"],
        holds: "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        message: "maxInterval must be from 1s to 1h, such as 5m",
        field_path: None,
    },
    Rule {
        at: &["spec", "polling"],
        holds: "!has(self.minInterval) || !has(self.maxInterval) || duration(self.minInterval) <= duration(self.maxInterval)",
        message: "minInterval must not be longer than maxInterval",
        field_path: Some(".minInterval"),
    },
    Rule {
        at: &["spec", "images"],
        holds: "(has(self.items) && size(self.items) > 0) || (has(self.results) && self.results)",
        message: "images asks for nothing: name items, or set results to true",
        field_path: None,
    },
    Rule {
        at: &["spec", "images"],
        holds: "!has(self.items) || self.items.all(a, self.items.exists_one(b, a.kind == b.kind && a.imageType == b.imageType && (has(a.attemptIndex) ? a.attemptIndex : 0) == (has(b.attemptIndex) ? b.attemptIndex : 0)))",
        message: "items names the same image twice; each kind, imageType and attemptIndex can be asked for once",
        field_path: Some(".items"),
    },
    Rule {
        at: &["spec", "images"],
        holds: "!has(self.items) || self.items.all(item, !has(item.attemptIndex) || item.kind == 'Redacted' || item.kind == 'Unredacted')",
        message: "attemptIndex is only for the kinds Redacted and Unredacted; the portal has one Front and one Back",
        field_path: Some(".items"),
    },
    Rule {
        at: &["spec", "images", "destination"],
        holds: "has(self.url) != has(self.store)",
        message: "a destination has either a url with credentialsSecretRef, or the name of a store",
        field_path: None,
    },
    Rule {
        at: &["spec", "images", "destination"],
        holds: "has(self.url) == has(self.credentialsSecretRef)",
        message: "a url needs credentialsSecretRef, a Secret of this namespace; a store has its own credentials",
        field_path: None,
    },
    Rule {
        at: &["spec", "images", "destination", "url"],
        holds: "!self.contains('/../') && !self.contains('/./') && !self.endsWith('/..') && !self.endsWith('/.')",
        message: "a url's prefix has no . or .. in it",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.verificationId) || (has(self.verificationId) && self.verificationId == oldSelf.verificationId)",
        message: "verificationId is written once and never changes",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.outcome) || (has(self.outcome) && self.outcome == oldSelf.outcome)",
        message: "outcome is written once and never changes",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.finishedAt) || (has(self.finishedAt) && self.finishedAt == oldSelf.finishedAt)",
        message: "finishedAt is written once and never changes",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.settled) || !oldSelf.settled || (has(self.settled) && self.settled)",
        message: "settled never goes back",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(self.settled) || !self.settled || has(self.outcome)",
        message: "only what has an outcome is settled",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.session) || !has(oldSelf.session.attempt) || (has(self.session) && has(self.session.attempt) && self.session.attempt >= oldSelf.session.attempt)",
        message: "session.attempt never falls",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.session) || !has(oldSelf.session.orphans) || (has(self.session) && has(self.session.orphans) && self.session.orphans >= oldSelf.session.orphans)",
        message: "session.orphans never falls",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.session) || !has(oldSelf.session.forgiven) || (has(self.session) && has(self.session.forgiven) && self.session.forgiven >= oldSelf.session.forgiven)",
        message: "session.forgiven never falls",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.verificationId) || !has(oldSelf.session) || !has(oldSelf.session.portal) || (has(self.session) && has(self.session.portal) && self.session.portal == oldSelf.session.portal)",
        message: "session.portal is fixed once verificationId is published",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.conditions) || !oldSelf.conditions.exists(c, c.type == 'Finished' && c.status == 'True') || (has(self.conditions) && self.conditions.exists(c, c.type == 'Finished' && c.status == 'True'))",
        message: "the condition Finished never goes back",
        field_path: None,
    },
    Rule {
        at: &["status"],
        holds: "!has(oldSelf.conditions) || !oldSelf.conditions.exists(c, c.type == 'Verified' && c.status != 'Unknown') || (has(self.conditions) && self.conditions.exists(c, c.type == 'Verified' && c.status == oldSelf.conditions.filter(o, o.type == 'Verified')[0].status))",
        message: "the condition Verified never goes back",
        field_path: None,
    },
    Rule {
        at: &["status", "session"],
        holds: "!has(self.orphans) || (has(self.attempt) && self.orphans <= self.attempt)",
        message: "session.orphans cannot exceed session.attempt",
        field_path: None,
    },
    Rule {
        at: &["status", "session"],
        holds: "!has(self.forgiven) || (has(self.orphans) && self.forgiven <= self.orphans)",
        message: "session.forgiven cannot exceed session.orphans",
        field_path: None,
    },
    Rule {
        at: &["status", "progress"],
        holds: "self.all(name, size(name) <= 64)",
        message: "a module's name has at most 64 characters",
        field_path: None,
    },
];

use clap::Parser as _;

use super::*;

fn settings(flags: &[&str]) -> Result<Settings, clap::Error> {
    let line = CommandLine::try_parse_from(["okid-operator", "run"].iter().chain(flags))?;
    match line.command {
        Command::Run(settings) => Ok(*settings),
        Command::Crd | Command::Check(_) | Command::ReleaseFinalizers(_) | Command::Completions { .. } => {
            panic!("another command")
        }
    }
}

fn refusal(flags: &[&str]) -> String {
    settings(flags).err().unwrap().to_string()
}

#[test]
fn every_value_has_a_default_that_is_valid() {
    let settings = settings(&[]).unwrap();
    assert_eq!(settings.default_portal.as_str(), crate::portal::DEFAULT_PORTAL);
    assert_eq!((settings.portal_rate.get(), settings.key_rate.get()), (Some(200.0), Some(50.0)));
    assert_eq!(settings.shutdown_grace_period, Duration::from_mins(1));
    assert_eq!(settings.admin_address.to_string(), "[::]:8080");
    assert_eq!(settings.max_concurrent_reconciles, 10_000);
    assert_eq!(settings.budget().max_in_flight, 9_000);
    assert!(settings.namespaces.is_empty() && settings.selector.is_none() && settings.own_pod.is_none());
    let election = LeaderElection {
        lease_name: "okid-operator".to_owned(),
        lease_namespace: None,
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    };
    assert_eq!(settings.leader_election, Some(election));
}

#[test]
fn namespaces_are_repeatable_or_comma_separated_and_count_once() {
    let namespaces = |flags: &[&str]| {
        let found = settings(flags).unwrap().namespaces;
        found.iter().map(|namespace| namespace.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(namespaces(&["--namespace", "two, one,", "--namespace", "one"]), ["one", "two"]);
    assert!(refusal(&["--namespace", "one,Two"]).contains("write the name of a namespace"));
}

#[test]
fn a_single_replica_needs_no_lease() {
    let election = |flags: &[&str]| settings(flags).map(|found| found.leader_election.is_some());
    assert!(!election(&["--leader-elect=false"]).unwrap());
    assert!(election(&["--leader-elect"]).unwrap() && election(&["--leader-elect=true"]).unwrap());
    assert!(refusal(&["--leader-elect=perhaps"]).contains("--leader-elect"));
}

#[test]
fn operators_that_share_the_work_do_not_share_a_lease_by_default() {
    let name = |flags: &[&str]| settings(flags).unwrap().leader_election.unwrap().lease_name;
    let names = [
        &[][..],
        &["--namespace", "one"],
        &["--namespace", "two"],
        &["--namespace", "one,two"],
        &["--selector", "team=kyc"],
        &["--selector", "team=kyc", "--namespace", "one"],
    ]
    .map(name);
    assert!(
        names[1..].iter().all(|name| name.starts_with("okid-operator-") && name.len() == 22),
        "{names:?}"
    );
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    assert_eq!(name(&["--namespace", "two, one,"]), name(&["--namespace=one", "--namespace=two"]));
    assert_eq!(name(&["--namespace", "one", "--leader-lease-name", "okid.operator"]), "okid.operator");
}

#[test]
fn durations_of_the_election_that_do_not_fit_together_are_refused_with_the_reason() {
    for (flags, advice) in [
        (["--leader-lease-duration=10s", "--leader-renew-deadline=10s"], "another one takes over"),
        (["--leader-renew-deadline=12s", "--leader-retry-period=10s"], "1.2 times --leader-retry-period"),
        (
            ["--leader-renew-deadline=5s", "--leader-retry-period=0s"],
            "--leader-retry-period must be at least 1s",
        ),
        (
            ["--leader-renew-deadline=10s", "--leader-retry-period=18000000000000000000s"],
            "1.2 times --leader-retry-period",
        ),
        (
            [
                "--leader-lease-duration=18000000000000000000s",
                "--leader-renew-deadline=17000000000000000000s",
            ],
            "--leader-lease-duration must be at most 1h",
        ),
    ] {
        let refusal = refusal(&flags);
        assert!(refusal.contains(advice) && refusal.contains("default"), "{flags:?}: {refusal}");
    }
    let flags = ["--leader-lease-duration=1m", "--leader-renew-deadline=13s", "--leader-retry-period=10s"];
    assert!(settings(&flags).is_ok());
}

#[test]
fn the_default_portal_is_the_first_allowed_one_unless_another_allowed_one_is_named() {
    let allowed = ["--allowed-portal", "https://one.example, https://two.example,"];
    let portal = |more: &[&str]| settings(&[&allowed, more].concat()).map(|found| found.default_portal);
    assert_eq!(portal(&[]).unwrap().as_str(), "https://one.example");
    assert_eq!(
        portal(&["--default-portal", "https://two.example/"]).unwrap().as_str(),
        "https://two.example"
    );
    let other = refusal(&[&allowed[..], &["--default-portal", "https://three.example"]].concat());
    assert!(other.contains("--default-portal is not one of the allowed portals"), "{other}");
    assert!(refusal(&["--allowed-portal", ","]).contains("--allowed-portal is empty"));
}

#[test]
fn each_portal_may_use_its_part_of_nine_tenths_of_all_reconciles() {
    let flags =
        ["--allowed-portal", "https://one.example,https://two.example,", "--max-concurrent-reconciles=100"];
    assert_eq!(settings(&flags).unwrap().budget().max_in_flight, 45);
}

#[test]
fn durations_are_written_as_in_the_resource() {
    let period = |text| settings(&["--shutdown-grace-period", text]).map(|found| found.shutdown_grace_period);
    assert_eq!(period("1h30m").unwrap(), Duration::from_mins(90));
    for text in ["60", "1d", "soon", ""] {
        let refusal = refusal(&["--shutdown-grace-period", text]);
        assert!(refusal.contains("--shutdown-grace-period") && refusal.contains("such as 90s"), "{refusal}");
    }
}

#[test]
fn a_value_that_cannot_be_used_is_refused_with_its_flag_and_what_to_write() {
    let endless = format!("/{}", "a".repeat(512));
    for (flag, value, advice) in [
        ("--portal-qps", "0.5", "from 1 to 100000, or 0 for no limit"),
        ("--key-qps", "NaN", "from 1 to 100000, or 0 for no limit"),
        ("--key-qps", "inf", "from 1 to 100000, or 0 for no limit"),
        ("--link-path", "verify", "it begins with /"),
        ("--link-path", "/verify?a=b", "no ? or #"),
        ("--link-path", &endless, "at most 512 characters"),
        ("--namespace", "Team_A", "lower-case letters, digits and dashes"),
        ("--selector", "team in kyc", "team in (kyc, hr)"),
        ("--namespace", "a-", "lower-case letters, digits and dashes"),
        ("--leader-lease-name", "Okid", "lower-case letters, digits, dashes and dots"),
        ("--leader-lease-name", "a..b", "lower-case letters, digits, dashes and dots"),
        ("--leader-lease-namespace", "Team_A", "lower-case letters, digits and dashes"),
        ("--log-filter", "okid=loudest", "okid_operator=debug"),
        ("--log-filter", " ,", "okid_operator=debug"),
        ("--allowed-store-endpoint", "minio", "http:// or https://"),
        ("--allowed-portal", "http://portal.example", "--allow-plain-http"),
        ("--forbid-image", "redacted", "unredacted, front, back"),
    ] {
        let refusal = refusal(&[flag, value]);
        assert!(refusal.contains(flag) && refusal.contains(advice), "{flag} {value}: {refusal}");
    }
    assert_eq!(settings(&["--portal-qps", "0"]).unwrap().portal_rate.get(), None);
}

#[test]
fn a_proxy_or_portal_that_is_refused_is_not_repeated_because_it_may_hold_a_password() {
    for (flag, value) in [
        ("--portal-proxy", "ftp://hunter2@proxy:1"),
        ("--portal-proxy", "socks5://user:hunter2@proxy:1"),
        ("--portal-proxy", "http://user:hunter2@pro xy"),
        ("--allowed-portal", "https://user:hunter2@portal.example"),
        ("--default-portal", "https://user:hunter2@portal.example"),
        ("--allowed-store-endpoint", "https://user:hunter2@store.example"),
    ] {
        let refusal = refusal(&[flag, value]);
        assert!(refusal.contains(flag) && !refusal.contains("hunter2"), "{refusal}");
    }
    let proxy: ProxyUrl = "http://user:hunter2@proxy.example:3128".parse().unwrap();
    assert!(!format!("{proxy:?}").contains("hunter2"));
}

#[test]
fn the_address_of_an_admin_server_is_an_http_url_without_a_path() {
    let parse = |text: &str| text.parse::<AdminUrl>().is_ok();
    assert!(parse("http://okid-operator-metrics:8080") && parse("http://[::1]:8080/"));
    for text in
        ["https://metrics:8080", "http://metrics:8080/metrics", "http://metrics?a", "metrics:8080", ""]
    {
        assert!(!parse(text), "{text}");
    }
}

#[test]
fn stopping_the_operator_needs_to_know_its_namespace() {
    let parse = |flags: &[&str]| {
        CommandLine::try_parse_from(["okid-operator", "release-finalizers"].iter().chain(flags)).is_ok()
    };
    assert!(parse(&[]) && parse(&["--namespace", "a,b", "--selector", "a=b"]));
    assert!(!parse(&["--stop-deployment", "okid"]));
    assert!(parse(&["--stop-deployment", "okid", "--pod-namespace", "okid", "--pod-selector", "a=b"]));
}

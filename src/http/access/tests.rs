//! The rules as a whole, by tables.

#![allow(clippy::unwrap_used)]

use super::*;

fn access(config: config::Access) -> Access {
    let names = vec!["birdbox".to_owned(), "birdbox.example.org".to_owned()];
    let own = || vec![IpAddr::from([203, 0, 113, 5]), "2001:db8:9::5".parse().unwrap()];
    Access { config, passwords: None, names, own_addresses: OwnAddresses::new(own) }
}

fn allowing(allow: &[&str], trusted_proxies: &[&str]) -> Access {
    access(config::Access {
        allow: allow.iter().map(|network| network.parse().unwrap()).collect(),
        trusted_proxies: trusted_proxies.iter().map(|network| net(network)).collect(),
        ..config::Access::default()
    })
}

/// A network, or one address, as the configuration has it.
fn net(text: &str) -> ipnet::IpNet {
    match text.parse().unwrap() {
        Network::Net(network) => network,
        other => panic!("{other}"),
    }
}

fn facts(peer: &str) -> RequestFacts<'static> {
    RequestFacts {
        peer: peer.parse().unwrap(),
        local: None,
        host: None,
        forwarding: ForwardingHeaders::default(),
        authorization: None,
        token: None,
    }
}

/// A request of 127.0.0.1 with these headers.
fn proxied(headers: &[(&'static str, &'static str)]) -> RequestFacts<'static> {
    let mut facts = facts("127.0.0.1");
    for (name, value) in headers {
        facts.forwarding.add(name, value);
    }
    facts
}

#[test]
fn only_the_local_network_is_served_by_default() {
    let access = access(config::Access::default());
    for ip in [
        "127.0.0.1",
        "127.9.9.9",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.1.1",
        "::1",
        "fe80::1",
        "fd12:3456::1",
        "::ffff:192.168.1.9",
    ] {
        assert!(access.check(&facts(ip)).is_ok(), "{ip}");
    }
    for ip in
        ["8.8.8.8", "172.32.0.1", "192.169.0.1", "100.64.0.1", "2001:db8::1", "fec0::1", "::ffff:8.8.8.8"]
    {
        let client = ip.parse::<IpAddr>().unwrap().to_canonical();
        assert_eq!(access.check(&facts(ip)).unwrap_err(), Refusal::Address(client));
    }
}

#[test]
fn a_global_address_on_the_servers_own_link_is_local() {
    let access = access(config::Access::default());
    let from = |peer: &str, local: &str| {
        access.check(&RequestFacts { local: Some(local.parse().unwrap()), ..facts(peer) }).is_ok()
    };
    assert!(from("2001:db8:1:2::7", "2001:db8:1:2::1"));
    assert!(!from("2001:db8:1:3::7", "2001:db8:1:2::1"));
    assert!(!from("8.8.8.9", "8.8.8.8"), "the prefix of an IPv4 network is not known");
}

#[test]
fn this_machines_own_public_addresses_are_local() {
    let access = access(config::Access::default());
    for own in ["203.0.113.5", "::ffff:203.0.113.5", "2001:db8:9::5"] {
        assert!(access.check(&facts(own)).is_ok(), "{own}");
    }
    // Also where the list of addresses is not complete.
    let itself = RequestFacts { local: Some("198.51.100.1".parse().unwrap()), ..facts("198.51.100.1") };
    assert!(access.check(&itself).is_ok());
    assert!(access.check(&facts("203.0.113.6")).is_err());
}

#[test]
fn networks_can_be_allowed() {
    let tailscale = allowing(&["100.64.0.0/10"], &[]);
    assert!(tailscale.check(&facts("100.100.1.1")).is_ok());
    assert!(tailscale.check(&facts("192.168.1.1")).is_err());
    assert!(allowing(&["any"], &[]).check(&facts("8.8.8.8")).is_ok());
    assert!(allowing(&[], &[]).check(&facts("127.0.0.1")).is_err());
}

#[test]
fn a_proxy_that_nobody_named_makes_nobody_local() {
    let access = access(config::Access::default());
    for header in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP"] {
        for value in ["203.0.113.9", "192.168.1.4", ""] {
            let refusal = access.check(&proxied(&[(header, value)])).unwrap_err();
            assert_eq!(refusal, Refusal::UntrustedProxy(IpAddr::from([127, 0, 0, 1]), header));
            let text = access.explain(&refusal);
            assert!(text.contains("trusted_proxies = [\"127.0.0.1\"]") && text.contains(header), "{text}");
        }
    }
    assert!(access.check(&proxied(&[("Via", "1.1 squid"), ("X-Forwarded-Proto", "https")])).is_ok());
    let named = allowing(&["local"], &["10.0.0.1"]);
    let refusal = named.check(&proxied(&[("X-Real-IP", "8.8.8.8")])).unwrap_err();
    assert!(named.explain(&refusal).contains("trusted_proxies = [..., \"127.0.0.1\"]"));
}

#[test]
fn a_trusted_proxys_client_is_judged_by_every_header() {
    let access = allowing(&["local"], &["127.0.0.1"]);
    let from = |headers: &[(&'static str, &'static str)]| match access.check(&proxied(headers)) {
        Ok(Verdict::Allowed(client)) => Ok(client.to_string()),
        Ok(Verdict::NeedsHash(_)) => panic!("there are no passwords"),
        Err(refusal) => Err(refusal),
    };
    let refused = |ip: [u8; 4]| Err(Refusal::Address(IpAddr::from(ip)));
    let unknown = Err(Refusal::UnknownClient(IpAddr::from([127, 0, 0, 1])));
    for (headers, expected) in [
        (&[("X-Forwarded-For", "192.168.1.4")][..], Ok("192.168.1.4".to_owned())),
        (&[("X-Forwarded-For", "8.8.8.8")], refused([8, 8, 8, 8])),
        (&[("X-Real-IP", "192.168.1.4")], Ok("192.168.1.4".to_owned())),
        (&[("X-Real-IP", "8.8.8.8")], refused([8, 8, 8, 8])),
        (&[("Forwarded", "for=192.168.1.4;proto=https")], Ok("192.168.1.4".to_owned())),
        (&[("Forwarded", "for=8.8.8.8")], refused([8, 8, 8, 8])),
        (&[("CF-Connecting-IP", "8.8.8.8")], refused([8, 8, 8, 8])),
        // A header that the client forged beside the one that the proxy sets.
        (&[("X-Forwarded-For", "192.168.1.4"), ("X-Real-IP", "8.8.8.8")], refused([8, 8, 8, 8])),
        (&[("X-Forwarded-For", "8.8.8.8"), ("Forwarded", "for=10.0.0.1")], refused([8, 8, 8, 8])),
        // The machine itself through its own proxy.
        (&[("X-Forwarded-For", "127.0.0.1")], Ok("127.0.0.1".to_owned())),
        (&[("X-Forwarded-For", "203.0.113.5")], Ok("203.0.113.5".to_owned())),
        (&[("X-Forwarded-For", "unknown")], unknown.clone()),
        (&[], unknown.clone()),
    ] {
        assert_eq!(from(headers), expected, "{headers:?}");
    }
    // The proxy's own link is not the client's.
    let link = RequestFacts {
        peer: "2001:db8:1:2::2".parse().unwrap(),
        local: Some("2001:db8:1:2::1".parse().unwrap()),
        ..proxied(&[("X-Forwarded-For", "2001:db8:1:2::7")])
    };
    assert!(allowing(&["local"], &["2001:db8:1:2::2"]).check(&link).is_err());
}

#[test]
fn clients_that_a_proxy_does_not_name_are_served_only_where_that_is_said() {
    for (allow, served) in [
        (&["local"][..], false),
        (&["127.0.0.0/8"], false),
        (&["local", "127.0.0.1"], true),
        (&["any"], true),
        (&[], false),
    ] {
        assert_eq!(allowing(allow, &["127.0.0.0/8"]).check(&proxied(&[])).is_ok(), served, "{allow:?}");
    }
    let access = allowing(&["local"], &["127.0.0.1"]);
    let text = access.explain(&access.check(&proxied(&[])).unwrap_err());
    assert!(
        text.contains("X-Forwarded-For") && text.contains("allow = [\"local\", \"127.0.0.1\"]"),
        "{text}"
    );
}

#[test]
fn a_refused_address_comes_with_the_line_that_would_allow_it() {
    let refusal = Refusal::Address(IpAddr::from([8, 8, 8, 8]));
    let text = access(config::Access::default()).explain(&refusal);
    assert!(text.starts_with("8.8.8.8 may not listen here."), "{text}");
    assert!(text.ends_with("allow = [\"local\", \"8.8.8.8\"]"), "{text}");
    // Strangers do not learn which networks are allowed.
    let text = allowing(&["100.64.0.0/10"], &[]).explain(&refusal);
    assert!(text.ends_with("allow = [..., \"8.8.8.8\"]"), "{text}");
}

#[test]
fn a_name_of_another_machine_is_refused() {
    let access = access(config::Access::default());
    let with = |host| access.admit(&RequestFacts { host: Some(host), ..facts("192.168.1.4") });
    assert!(with("birdbox.local:4410").is_ok());
    assert!(with("[fe80::1%eth0]:4410").is_ok());
    assert_eq!(with("evil.example"), Err(Refusal::Host("evil.example".to_owned())));
    assert!(!access.explain(&Refusal::Host("a\r\nb".repeat(99))).contains('\r'));
}

#[test]
fn listeners_are_checked_again_by_address() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let local = allowing(&["local"], &["127.0.0.1"]);
    for (client, server, allowed) in [
        ("192.168.1.4", None, true),
        ("::ffff:192.168.1.4", None, true),
        ("8.8.8.8", None, false),
        ("2001:db8:1:2::7", Some("2001:db8:1:2::1"), true),
        ("2001:db8:1:2::7", None, false),
        // This address stands for clients that the proxy did not name.
        ("127.0.0.1", None, false),
    ] {
        assert_eq!(local.recheck(ip(client), server.map(ip)), allowed, "{client}");
    }
    assert!(allowing(&["any"], &["127.0.0.1"]).recheck(ip("127.0.0.1"), None));
    assert!(!allowing(&["10.0.0.0/8"], &[]).recheck(ip("192.168.1.4"), None));
}

#[test]
fn a_client_behind_a_proxy_counts_as_each_address_that_it_claims() {
    let access = allowing(&["any"], &["127.0.0.1"]);
    let claims =
        |headers| -> Vec<String> { access.claims(&proxied(headers)).iter().map(IpAddr::to_string).collect() };
    let forged = [("X-Forwarded-For", "127.0.0.1, 192.168.1.4"), ("X-Real-IP", "8.8.8.8")];
    assert_eq!(claims(&forged), ["192.168.1.4", "8.8.8.8"]);
    assert_eq!(claims(&[]), ["127.0.0.1"]);
}

#[test]
fn credentials_are_narrowed_when_a_password_is_new_or_an_entry_gone() {
    let entry = |name: &str| passwords::line(name, "secret").unwrap();
    let token = |name: &str| format!("{name}:{}", Token::random().unwrap().digest());
    let (anna, anna_2, ben, radio, radio_2) =
        (entry("anna"), entry("anna"), entry("ben"), token("radio"), token("radio"));
    let file = |lines: &[&String]| {
        let text: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
        let passwords = (!lines.is_empty()).then(|| Passwords::parse(&text.join("\n"), "w").unwrap());
        Access { passwords, ..access(config::Access::default()) }
    };
    for (old, new, narrows) in [
        (&[][..], &[][..], false),
        (&[], &[&anna], true),
        (&[&anna], &[], false),
        (&[&anna], &[&anna, &ben], false),
        (&[&anna, &ben], &[&ben, &anna], false),
        (&[&anna, &ben], &[&anna], true),
        (&[&anna], &[&anna_2], true),
        (&[&anna], &[&anna, &radio], false),
        (&[&anna, &radio], &[&anna], true),
        (&[&anna, &radio], &[&anna, &radio_2], true),
    ] {
        assert_eq!(file(new).narrows_credentials(&file(old)), narrows, "{old:?} to {new:?}");
    }
}

#[test]
fn a_password_is_hashed_apart_and_remembered() {
    let line = passwords::line("anna", "secret").unwrap();
    let access = Access { passwords: Passwords::parse(&line, "w").ok(), ..access(config::Access::default()) };
    let with = |authorization| access.check(&RequestFacts { authorization, ..facts("192.168.1.4") });
    const RIGHT: Option<&str> = Some("Basic YW5uYTpzZWNyZXQ=");
    const WRONG: Option<&str> = Some("Basic YW5uYTp3cm9uZw==");
    assert_eq!(with(None).unwrap_err(), Refusal::Password);
    assert_eq!(with(Some("Bearer x")).unwrap_err(), Refusal::Password);
    let Ok(Verdict::NeedsHash(pending)) = with(WRONG) else { panic!("nothing is known of it") };
    assert_eq!(access.verify_slow(&pending), Err(Refusal::Password));
    let Ok(Verdict::NeedsHash(pending)) = with(RIGHT) else { panic!("nothing is known of it") };
    assert_eq!(access.verify_slow(&pending), Ok(IpAddr::from([192, 168, 1, 4])));
    assert!(matches!(with(RIGHT), Ok(Verdict::Allowed(_))));
    // No password of a client that may not listen at all is looked at.
    let outside = RequestFacts { authorization: RIGHT, ..facts("8.8.8.8") };
    assert!(matches!(access.check(&outside), Err(Refusal::Address(_))));
    for _ in 0..9 {
        let _ = with(WRONG);
    }
    assert_eq!(with(WRONG).unwrap_err(), Refusal::TooManyTries);
    assert!(matches!(with(RIGHT), Ok(Verdict::Allowed(_))));
}

#[test]
fn a_token_stands_in_for_a_password_and_a_wrong_one_costs_a_try() {
    let token = Token::random().unwrap();
    let lines = format!("{}\nradio:{}", passwords::line("anna", "secret").unwrap(), token.digest());
    let access =
        Access { passwords: Passwords::parse(&lines, "w").ok(), ..access(config::Access::default()) };
    let with = |token: &Token, authorization| {
        access.check(&RequestFacts { token: Some(token.clone()), authorization, ..facts("192.168.1.4") })
    };
    let wrong = Token::of("wrong".to_owned());
    assert!(matches!(with(&token, None), Ok(Verdict::Allowed(_))));
    assert!(matches!(with(&token, Some("Bearer x")), Ok(Verdict::Allowed(_))));
    assert_eq!(with(&wrong, None).unwrap_err(), Refusal::Token);
    // A right password beside a wrong token.
    let right = Some("Basic YW5uYTpzZWNyZXQ=");
    let Ok(Verdict::NeedsHash(pending)) = with(&wrong, right) else { panic!("nothing is known of it") };
    assert!(access.verify_slow(&pending).is_ok());
    let refusals: Vec<Refusal> = (0..9).map(|_| with(&wrong, None).unwrap_err()).collect();
    assert_eq!(refusals.first(), Some(&Refusal::Token));
    assert_eq!(refusals.last(), Some(&Refusal::TooManyTries));
    assert!(matches!(with(&wrong, right), Ok(Verdict::Allowed(_))));
    assert!(matches!(with(&token, None), Ok(Verdict::Allowed(_))), "a guesser holds up nobody");
    // A client that may not listen at all learns nothing of its token.
    let outside = RequestFacts { token: Some(token), ..facts("8.8.8.8") };
    assert!(matches!(access.check(&outside), Err(Refusal::Address(_))));
    let debug = format!("{:?}", RequestFacts { token: Some(wrong), ..facts("8.8.8.8") });
    assert!(!debug.contains("wrong"), "{debug}");
}

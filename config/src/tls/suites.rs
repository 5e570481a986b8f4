//! `security.ssl.algorithms`: from Java's and OpenSSL's names to the suites that rustls has.

use tls_common::ProtocolVersion::{self, Tls12, Tls13};

/// A suite that rustls has, by its IANA name (which is Java's too) and OpenSSL's.
struct Suite {
    iana: &'static str,
    openssl: &'static str,
    protocol: ProtocolVersion,
}

#[rustfmt::skip]
const SUITES: [Suite; 9] = [
    Suite { protocol: Tls13, iana: "TLS_AES_256_GCM_SHA384", openssl: "TLS_AES_256_GCM_SHA384" },
    Suite { protocol: Tls13, iana: "TLS_AES_128_GCM_SHA256", openssl: "TLS_AES_128_GCM_SHA256" },
    Suite { protocol: Tls13, iana: "TLS_CHACHA20_POLY1305_SHA256", openssl: "TLS_CHACHA20_POLY1305_SHA256" },
    Suite { protocol: Tls12, iana: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", openssl: "ECDHE-ECDSA-AES256-GCM-SHA384" },
    Suite { protocol: Tls12, iana: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", openssl: "ECDHE-ECDSA-AES128-GCM-SHA256" },
    Suite { protocol: Tls12, iana: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", openssl: "ECDHE-ECDSA-CHACHA20-POLY1305" },
    Suite { protocol: Tls12, iana: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", openssl: "ECDHE-RSA-AES256-GCM-SHA384" },
    Suite { protocol: Tls12, iana: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", openssl: "ECDHE-RSA-AES128-GCM-SHA256" },
    Suite { protocol: Tls12, iana: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", openssl: "ECDHE-RSA-CHACHA20-POLY1305" },
];

/// Flink's default until 1.x: static RSA and CBC, which no Rust implementation has.
const FORMER_DEFAULT: [&str; 1] = ["TLS_RSA_WITH_AES_128_CBC_SHA"];

/// Flink's default since 2.x.
const DEFAULT: [&str; 2] = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"];

/// What a list of suites comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// IANA names in order of preference; empty = all there are.
    pub(crate) suites: Vec<&'static str>,
    /// The versions that have a suite left.
    pub(crate) protocols: Vec<ProtocolVersion>,
    /// What is not as it was asked for.
    pub(crate) warnings: Vec<String>,
}

/// Maps `names` for the enabled `protocols`. `None` if no suite is left.
///
/// A list that is one of Flink's defaults was most likely copied, not chosen: it does not switch TLS 1.3 off.
pub(crate) fn select(names: &[String], protocols: &[ProtocolVersion]) -> Option<Selection> {
    let mut warnings = Vec::new();
    let suites = if names.is_empty() {
        Vec::new()
    } else if names == FORMER_DEFAULT {
        warnings.push(format!(
            "Flink's former default cipher suite {} cannot be had in Rust; all of Tidemill's are used: {}",
            FORMER_DEFAULT.concat(),
            iana_names(protocols).join(", ")
        ));
        Vec::new()
    } else if names == DEFAULT {
        // Keeps to TLS 1.2's two and adds what TLS 1.3 needs.
        let enabled = |suite: &&Suite| protocols.contains(&suite.protocol);
        let chosen = |suite: &&Suite| suite.protocol == Tls13 || DEFAULT.contains(&suite.iana);
        SUITES.iter().filter(enabled).filter(chosen).map(|suite| suite.iana).collect()
    } else {
        let chosen = explicit(names, protocols, &mut warnings);
        if chosen.is_empty() {
            return None;
        }
        chosen
    };
    let usable = |version: &ProtocolVersion| {
        suites.is_empty() || SUITES.iter().any(|suite| suite.protocol == *version && suites.contains(&suite.iana))
    };
    let (left, lost): (Vec<_>, Vec<_>) = protocols.iter().copied().partition(usable);
    if !lost.is_empty() {
        warnings.push(format!(
            "`security.ssl.algorithms` has no suite of {}, which is therefore off; add {}",
            lost.iter().map(|version| name(*version)).collect::<Vec<_>>().join(", "),
            iana_names(&lost).join(", "),
        ));
    }
    Some(Selection { suites, protocols: left, warnings })
}

/// Every suite of `protocols`, best first.
pub(crate) fn iana_names(protocols: &[ProtocolVersion]) -> Vec<&'static str> {
    SUITES.iter().filter(|suite| protocols.contains(&suite.protocol)).map(|suite| suite.iana).collect()
}

fn explicit(names: &[String], protocols: &[ProtocolVersion], warnings: &mut Vec<String>) -> Vec<&'static str> {
    let mut chosen = Vec::new();
    for name in names {
        match find(name) {
            Some(suite) if !protocols.contains(&suite.protocol) => {
                warnings.push(format!(
                    "cipher suite {name} is left out: `security.ssl.protocol` does not enable {}",
                    self::name(suite.protocol)
                ));
            }
            Some(suite) if !chosen.contains(&suite.iana) => chosen.push(suite.iana),
            Some(_) => {}
            None => warnings.push(format!("cipher suite {name} is not available and is left out")),
        }
    }
    chosen
}

fn find(name: &str) -> Option<&'static Suite> {
    let name = name.to_ascii_uppercase();
    // Java's oldest names begin with SSL_, rustls' own names of TLS 1.3 suites with TLS13_.
    let canonical = match name.strip_prefix("SSL_").or_else(|| name.strip_prefix("TLS13_")) {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    };
    SUITES.iter().find(|suite| suite.iana == canonical || suite.openssl == canonical)
}

const fn name(version: ProtocolVersion) -> &'static str {
    match version {
        Tls12 => "TLSv1.2",
        Tls13 => "TLSv1.3",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    const BOTH: [ProtocolVersion; 2] = [Tls12, Tls13];

    fn select(names: &[&str], protocols: &[ProtocolVersion]) -> Option<Selection> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        super::select(&names, protocols)
    }

    #[test]
    fn no_list_means_all() {
        let all = Selection { suites: Vec::new(), protocols: BOTH.into(), warnings: Vec::new() };
        assert_eq!(select(&[], &BOTH), Some(all));
    }

    #[test]
    fn flinks_former_default_means_all_and_says_so() {
        let selection = select(&["TLS_RSA_WITH_AES_128_CBC_SHA"], &BOTH).unwrap();
        assert!(selection.suites.is_empty());
        assert!(selection.warnings[0].contains("TLS_AES_256_GCM_SHA384"), "{:?}", selection.warnings);
    }

    #[test]
    fn flinks_default_keeps_tls_13_on_where_it_is_enabled() {
        let selection = select(&DEFAULT, &BOTH).unwrap();
        assert_eq!(selection.suites.len(), 5);
        assert_eq!((selection.protocols, selection.warnings.len()), (BOTH.into(), 0));
        let selection = select(&DEFAULT, &[Tls12]).unwrap();
        assert_eq!(selection.suites.len(), 2);
    }

    #[test]
    fn the_hardening_list_of_flinks_page_keeps_its_ecdhe_half() {
        let selection = select(
            &[
                "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            ],
            &BOTH,
        )
        .unwrap();
        assert_eq!(
            selection.suites,
            ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]
        );
        assert_eq!(selection.protocols, [Tls12]);
        assert_eq!(selection.warnings.len(), 3, "one per dropped suite, one for TLS 1.3: {:?}", selection.warnings);
    }

    #[test]
    fn every_spelling_of_a_suite() {
        for name in [
            "ECDHE-RSA-AES128-GCM-SHA256",
            "tls_ecdhe_rsa_with_aes_128_gcm_sha256",
            "SSL_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ] {
            assert_eq!(find(name).unwrap().iana, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
        }
        assert_eq!(find("TLS13_AES_128_GCM_SHA256").unwrap().iana, "TLS_AES_128_GCM_SHA256");
    }

    #[test]
    fn a_list_that_leaves_nothing_is_an_error() {
        assert_eq!(select(&["TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"], &BOTH), None);
        assert_eq!(select(&["TLS_AES_128_GCM_SHA256"], &[Tls12]), None);
    }
}

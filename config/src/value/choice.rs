//! Options that choose between a few words.

use super::{ConfigValue, Refusal};
use tls_common::{EstablishedConnections, Leniency, ProtocolVersion, StoreKind};

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl ConfigValue for LogFormat {
    const FORM: &'static str = "`text` or `json`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match word(text).as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// `taskmanager.data.transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataTransport {
    /// TCP, with TLS where internal TLS is on.
    Tcp,
    /// QUIC, over UDP. Needs internal TLS, and TLS 1.3 among its protocols.
    Quic,
}

impl ConfigValue for DataTransport {
    const FORM: &'static str = "`tcp` or `quic`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match word(text).as_str() {
            "tcp" => Ok(Self::Tcp),
            "quic" => Ok(Self::Quic),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// `taskmanager.network.compression.codec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionCodec {
    /// As it is.
    None,
    /// Cheap.
    Lz4,
    /// Smaller, and several times as much work.
    Zstd,
}

impl ConfigValue for CompressionCodec {
    const FORM: &'static str = "`NONE`, `LZ4` or `ZSTD`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match word(text).as_str() {
            "none" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            "lzo" => Err(Refusal::Because("LZO is not available; `LZ4` is as cheap and `ZSTD` compresses better")),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// `security.ssl.provider`: Flink's two implementations of TLS, neither of which is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslProvider {
    /// Java's.
    Jdk,
    /// OpenSSL or BoringSSL through netty-tcnative.
    OpenSsl,
}

impl ConfigValue for SslProvider {
    const FORM: &'static str = "`JDK` or `OPENSSL`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match word(text).as_str() {
            "jdk" => Ok(Self::Jdk),
            "openssl" => Ok(Self::OpenSsl),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// `security.ssl.protocol`: at least one version, none twice, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolVersions(Vec<ProtocolVersion>);

impl ProtocolVersions {
    /// The versions.
    pub fn into_vec(self) -> Vec<ProtocolVersion> {
        self.0
    }
}

impl ConfigValue for ProtocolVersions {
    const FORM: &'static str = "`TLSv1.2`, `TLSv1.3` or both separated by a comma";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let (mut tls12, mut tls13) = (false, false);
        for name in text.split(',') {
            match word(name).as_str() {
                "tlsv1.2" => tls12 = true,
                "tlsv1.3" => tls13 = true,
                "tlsv1" | "tlsv1.0" | "tlsv1.1" | "sslv2" | "sslv3" => {
                    return Err(Refusal::Because("TLS before 1.2 is broken and not available; use `TLSv1.2,TLSv1.3`"));
                }
                _ => return Err(Refusal::Malformed),
            }
        }
        let versions = [(tls12, ProtocolVersion::Tls12), (tls13, ProtocolVersion::Tls13)];
        Ok(Self(versions.into_iter().filter_map(|(enabled, version)| enabled.then_some(version)).collect()))
    }
}

impl ConfigValue for StoreKind {
    const FORM: &'static str = "`pkcs12`, `jks`, `pem`, `der` or `auto`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match word(text).as_str() {
            "auto" => Ok(Self::Auto),
            "pkcs12" | "p12" | "pfx" => Ok(Self::Pkcs12),
            "jks" => Ok(Self::Jks),
            "pem" => Ok(Self::Pem),
            "der" => Ok(Self::Der),
            "jceks" => Err(Refusal::Because(
                "JCEKS is not supported: convert the store with \
                 keytool -importkeystore -srckeystore OLD -destkeystore NEW -deststoretype PKCS12",
            )),
            _ => Err(Refusal::Malformed),
        }
    }
}

impl ConfigValue for EstablishedConnections {
    const FORM: &'static str = "`keep`, `drain-untrusted` or `renew`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match word(text).as_str() {
            "keep" => Ok(Self::Keep),
            "drain-untrusted" => Ok(Self::DrainUntrusted),
            "renew" => Ok(Self::Renew),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// `security.ssl.lenient`: nothing but what is named.
impl ConfigValue for Leniency {
    const FORM: &'static str =
        "some of `expired`, `x509v1`, `ca-as-end-entity` and `untrusted-issuer` separated by commas, or `none`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut granted = Self::STRICT;
        if word(text) == "none" {
            return Ok(granted);
        }
        for name in text.split(',') {
            match word(name).as_str() {
                "expired" => granted.expired = true,
                "x509v1" => granted.x509v1 = true,
                "ca-as-end-entity" => granted.ca_as_end_entity = true,
                "untrusted-issuer" => granted.untrusted_issuer = true,
                _ => return Err(Refusal::Malformed),
            }
        }
        Ok(granted)
    }
}

fn word(text: &str) -> String {
    text.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn protocol_versions() {
        let both = vec![ProtocolVersion::Tls12, ProtocolVersion::Tls13];
        assert_eq!(ProtocolVersions::parse("TLSv1.3, TLSv1.2,TLSv1.3").unwrap().into_vec(), both);
        assert_eq!(ProtocolVersions::parse("TLSv1.2").unwrap().into_vec(), [ProtocolVersion::Tls12]);
        assert_eq!(ProtocolVersions::parse(""), Err(Refusal::Malformed));
        assert_eq!(ProtocolVersions::parse("TLS"), Err(Refusal::Malformed));
        assert!(matches!(ProtocolVersions::parse("TLSv1.1,TLSv1.2"), Err(Refusal::Because(_))));
    }

    #[test]
    fn leniencies_are_exactly_those_named() {
        assert_eq!(Leniency::parse("none"), Ok(Leniency::STRICT));
        assert_eq!(Leniency::parse("expired, X509v1,ca-as-end-entity,untrusted-issuer"), Ok(Leniency::JAVA));
        assert_eq!(Leniency::parse("expired"), Ok(Leniency { expired: true, ..Leniency::STRICT }));
        for text in ["", "all", "expired,none", "expired,"] {
            assert_eq!(Leniency::parse(text), Err(Refusal::Malformed), "{text:?}");
        }
    }

    #[test]
    fn store_types_are_javas_and_jceks_is_refused_with_the_way_out() {
        assert_eq!(StoreKind::parse("PKCS12"), Ok(StoreKind::Pkcs12));
        assert_eq!(StoreKind::parse("JKS"), Ok(StoreKind::Jks));
        assert_eq!(StoreKind::parse("der"), Ok(StoreKind::Der));
        let Err(Refusal::Because(advice)) = StoreKind::parse("JCEKS") else { panic!("accepted") };
        assert!(advice.contains("keytool -importkeystore"), "{advice}");
    }
}

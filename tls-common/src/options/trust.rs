//! How strict trust is: where Java's answer differs from that of Rust's TLS libraries, and how large keys must be.

/// Certificates that Java's default trust manager accepts and webpki does not. Each can be granted alone, and each
/// speaks only of a certificate that itself lies in the truststore, byte for byte.
///
/// The default grants what takes nothing back: the operator put that very certificate there, so it matters neither
/// who signed it nor that it could sign others (`openssl req -x509` makes such ones). It does not waive what the
/// certificate says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leniency {
    /// `expired`: past its not-after.
    pub expired: bool,
    /// `x509v1`: of X.509 version 1, which has no extensions and so cannot limit its use. Our own certificate may then
    /// be one, too.
    pub x509v1: bool,
    /// `ca-as-end-entity`: a CA certificate used by a server or client itself.
    pub ca_as_end_entity: bool,
    /// `untrusted-issuer`: signed by somebody who is not trusted.
    pub untrusted_issuer: bool,
}

impl Leniency {
    /// As webpki: nothing.
    pub const STRICT: Self = Self { expired: false, x509v1: false, ca_as_end_entity: false, untrusted_issuer: false };
    /// As Java: everything.
    pub const JAVA: Self = Self { expired: true, x509v1: true, ca_as_end_entity: true, untrusted_issuer: true };
}

impl Default for Leniency {
    fn default() -> Self {
        Self { ca_as_end_entity: true, untrusted_issuer: true, ..Self::STRICT }
    }
}

/// The smallest keys, in bits, that our own certificate and the peers' chains may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySizes {
    /// Of an RSA modulus. The TLS library refuses less than [`KeySizes::LEAST_RSA`] whatever stands here.
    pub rsa: u32,
    /// Of an elliptic curve; Ed25519 counts as 256.
    pub ec: u32,
}

impl KeySizes {
    /// Below this (bits) RSA signatures are not even verified.
    pub const LEAST_RSA: u32 = 2048;
}

impl Default for KeySizes {
    fn default() -> Self {
        Self { rsa: Self::LEAST_RSA, ec: 256 }
    }
}

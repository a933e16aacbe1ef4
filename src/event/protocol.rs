//! Connections and requests on the gRPC port that break HTTP/2.

/// A client broke HTTP/2, or does not speak it. No call was decided, and to Envoy the rate limit
/// service is unavailable: unless configured otherwise it lets such requests pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolError {
    /// The connection does not begin with HTTP/2's preface, nor with another known protocol.
    BadPreface,
    /// The HPACK state of the two sides differs.
    Compression,
    /// The client sent too much of something: resets, header bytes, pings.
    EnhanceYourCalm,
    /// More was sent than a flow-control window allows.
    FlowControl,
    /// A frame has an invalid length.
    FrameSize,
    /// The connection speaks HTTP/1.
    Http1,
    /// Tollgate or a library of its failed.
    Internal,
    /// A request, a header block or a frame is malformed.
    Malformed,
    /// Any other error of HTTP/2.
    Other,
    /// The connection begins with the PROXY protocol.
    ProxyProtocol,
    /// More concurrent streams than are allowed.
    RefusedStream,
    /// The connection speaks TLS to a plaintext listener.
    Tls,
}

impl ProtocolError {
    /// Every error, in the order of [`ProtocolError::index`].
    pub const ALL: [Self; 12] = [
        Self::BadPreface,
        Self::Compression,
        Self::EnhanceYourCalm,
        Self::FlowControl,
        Self::FrameSize,
        Self::Http1,
        Self::Internal,
        Self::Malformed,
        Self::Other,
        Self::ProxyProtocol,
        Self::RefusedStream,
        Self::Tls,
    ];

    /// The error that an HTTP/2 error code stands for (RFC 9113, section 7); none for the two that
    /// end what went well: `NO_ERROR` and `CANCEL`.
    #[must_use]
    pub const fn from_http2(code: u32) -> Option<Self> {
        Some(match code {
            0x0 | 0x8 => return None,
            0x1 => Self::Malformed,
            0x2 => Self::Internal,
            0x3 => Self::FlowControl,
            0x6 => Self::FrameSize,
            0x7 => Self::RefusedStream,
            0x9 => Self::Compression,
            0xb => Self::EnhanceYourCalm,
            _ => Self::Other,
        })
    }

    /// The label that metrics have for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadPreface => "bad_preface",
            Self::Compression => "compression_error",
            Self::EnhanceYourCalm => "enhance_your_calm",
            Self::FlowControl => "flow_control_error",
            Self::FrameSize => "frame_size_error",
            Self::Http1 => "http1",
            Self::Internal => "internal_error",
            Self::Malformed => "protocol_error",
            Self::Other => "other",
            Self::ProxyProtocol => "proxy_protocol",
            Self::RefusedStream => "refused_stream",
            Self::Tls => "tls",
        }
    }

    /// What an operator should look at.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::BadPreface => {
                "the client speaks neither HTTP/2 nor HTTP/1 nor TLS: check which service it means to reach"
            }
            Self::Compression | Self::FlowControl | Self::FrameSize | Self::Other => {
                "the client or a proxy on the way has an HTTP/2 implementation that is out of step: \
                 check its version"
            }
            Self::EnhanceYourCalm => {
                "the client sends too many resets, pings or header bytes: check its timeouts and metadata"
            }
            Self::Http1 => {
                "the client speaks HTTP/1 to the gRPC port: set http2_protocol_options on Envoy's cluster \
                 for Tollgate (Kubernetes: appProtocol kubernetes.io/h2c, or name the port grpc)"
            }
            Self::Malformed => {
                "a request or its HPACK encoding was malformed, such as an invalid header name: check what \
                 the client adds to the call (Envoy: initial_metadata)"
            }
            Self::Internal => {
                "this is a bug of Tollgate: please report it with the lines around this one"
            }
            Self::ProxyProtocol => {
                "the client or a load balancer sends the PROXY protocol, which this listener does not \
                 accept: switch it off there"
            }
            Self::RefusedStream => {
                "the client opened more concurrent calls on a connection than the listener allows"
            }
            Self::Tls => {
                "the client speaks TLS to a plaintext listener: remove the transport_socket from Envoy's \
                 cluster for Tollgate"
            }
        }
    }

    /// Its place in [`ProtocolError::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::BadPreface => 0,
            Self::Compression => 1,
            Self::EnhanceYourCalm => 2,
            Self::FlowControl => 3,
            Self::FrameSize => 4,
            Self::Http1 => 5,
            Self::Internal => 6,
            Self::Malformed => 7,
            Self::Other => 8,
            Self::ProxyProtocol => 9,
            Self::RefusedStream => 10,
            Self::Tls => 11,
        }
    }
}

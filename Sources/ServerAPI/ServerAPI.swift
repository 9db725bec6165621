// What a log server and its clients say to each other, over HTTP/1.1 and TLS: paths, headers, JSON
// bodies, error codes and limits. Values only. The server's half is LogServer, the client's half is
// Shipping; docs/openapi.yaml tells the same to others.
//
//   GET    /v1/health                          HealthReply; needs no token
//   GET    /openapi.yaml                       this interface; needs no token
//   GET    /metrics                            Prometheus text; needs any token
//   GET    /v1/volumes                         VolumeListing: those that the token may see
//   GET    /v1/volumes/{v}                     VolumeReply
//   PUT    /v1/volumes/{v}                     VolumeRequest -> VolumeReply; makes or confirms it
//   POST   /v1/volumes/{v}/writer              WriterRequest -> VolumeReply; takes the volume over
//   PUT    /v1/volumes/{v}/retention           RetentionRequest -> VolumeReply
//   GET    /v1/volumes/{v}/segments            SegmentListing, sorted by name
//   GET    /v1/volumes/{v}/segments/{name}     bytes; Range of one part; HEAD
//   DELETE /v1/volumes/{v}/segments/{name}     204; needs a token with full access
//   GET    /v1/volumes/{v}/uploads/{id}        UploadReply: how much is there
//   PATCH  /v1/volumes/{v}/uploads/{id}        bytes from Upload-Offset on -> UploadReply
//   POST   /v1/volumes/{v}/uploads/{id}        CommitRequest -> CommitReply: durable and visible
//   DELETE /v1/volumes/{v}/uploads/{id}        204
//   POST   /v1/volumes/{v}/leases              LeaseRequest -> LeaseReply
//   PUT    /v1/volumes/{v}/leases/{id}         LeaseReply; renews it
//   DELETE /v1/volumes/{v}/leases/{id}         204
//   ...    /v1/backups/{b}...                  sets of backups (Backups.swift)
//
// An upload's id is chosen by the client (UploadID). Bytes may be sent again or in parts: an upload
// goes on where the server says that it stands (one that it does not know stands at 0). Only a
// commit makes a segment of it. Of several requests that write to one upload the last counts. An
// upload that is refused for its place in the chain stays; one that is damaged is thrown away.
//
// A token goes in `Authorization: Bearer TOKEN`; one that is read-only may lease what it reads.
// What sends, commits or gives up an upload names the volume's writer in `Logdisk-Writer`. Each
// answer to an upload tells the server's load in `Logdisk-Load`; 503 with Retry-After asks to wait.
// Anything that fails answers with an ErrorReply.

/// Names and numbers of the interface.
public enum ServerAPI {
    /// Who writes: the id in VolumeRequest and WriterRequest.
    public static let writerHeader = "Logdisk-Writer"
    /// How busy the server is, from 0 to 1, as a decimal number.
    public static let loadHeader = "Logdisk-Load"
    /// Where in the upload the body begins, in bytes.
    public static let uploadOffsetHeader = "Upload-Offset"
    /// Bytes of a JSON body, at the most.
    public static let bodyBytesMax = 4 << 20
    /// So long a lease lives without being renewed.
    public static let leaseSeconds: Int64 = 60
    /// Wall times of records may be ahead of the server's clock by so much.
    public static let clockAheadMax: Int64 = 3600

    /// Whether `name` can be the name of a volume at a server: 1 to 100 of A-Z a-z 0-9 . _ -,
    /// beginning with a letter or digit.
    public static func isVolumeName(_ name: some StringProtocol) -> Bool {
        isWord(name, countMax: 100)
    }

    /// Whether `id` can name an upload: as for volumes.
    public static func isUploadID(_ id: some StringProtocol) -> Bool {
        isWord(id, countMax: 160)
    }

    private static func isWord(_ text: some StringProtocol, countMax: Int) -> Bool {
        guard (1...countMax).contains(text.utf8.count), let first = text.utf8.first,
            first.isLetterOrDigit
        else { return false }
        return text.utf8.allSatisfy { $0.isLetterOrDigit || $0 == 0x2E || $0 == 0x5F || $0 == 0x2D }
    }
}

extension UInt8 {
    fileprivate var isLetterOrDigit: Bool {
        (0x30...0x39).contains(self) || (0x41...0x5A).contains(self) || (0x61...0x7A).contains(self)
    }
}

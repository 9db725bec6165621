// What goes over the control socket: JSON bodies, the same for curl and for our own commands.
//
//   GET  /metrics                           Prometheus text
//   GET  /v1/status                         StatusReport
//   POST /v1/mark      {"name": "..."}      PointReply: flushed, restorable
//   POST /v1/snapshot  {"name": "..."?}     SnapshotReply: when the snapshot is complete
//   POST /v1/archive                        PointReply: all up to there lies in segments now
//   POST /v1/unmount                        AcceptedReply; the process ends when drained
//
// Anything that fails answers with a FailureReply and an HTTP status other than 200.

import CommandText

/// A record that a reply speaks of.
struct PointReply: Codable, Sendable {
    var lsn: UInt64
    /// RFC 3339.
    var time: String
    var wallNanoseconds: Int64
    var name: String?

    enum CodingKeys: String, CodingKey {
        case lsn, time, name
        case wallNanoseconds = "wall_nanoseconds"
    }
}

struct SnapshotReply: Codable, Sendable {
    var lsn: UInt64
    var time: String
    var name: String?
    /// Name of the segment.
    var segment: String
    var bytes: UInt64
}

/// The body of a mark (required) or snapshot (optional) request.
struct NameRequest: Codable, Sendable {
    var name: String?
}

struct AcceptedReply: Codable, Sendable {
    var pid: Int32
}

/// A failure in the words that the command will print.
struct FailureReply: Codable, Sendable {
    /// The exit code of the command.
    var status: Int32
    var what: String
    var cause: String?
    var hint: String?

    init(_ failure: CommandFailure) {
        status = failure.status.rawValue
        what = failure.what
        cause = failure.cause
        hint = failure.hint
    }

    func failure(object: String) -> CommandFailure {
        CommandFailure(
            ExitStatus(rawValue: status) ?? .failed, object, what, cause: cause, hint: hint)
    }
}

// What goes over the control socket: JSON bodies, the same for curl and for our own commands.
//
//   GET  /metrics                           Prometheus text
//   GET  /v1/status                         StatusReport
//   POST /v1/mark      {"name": "..."}      PointReply: flushed, restorable
//   POST /v1/snapshot  {"name": "..."?}     SnapshotReply: when the snapshot is complete
//   POST /v1/archive                        PointReply: all up to there lies in segments now
//   GET  /v1/remotes                        [RemoteReport]
//   POST /v1/remotes/reload                 [RemoteReport]: their settings were read again
//   POST /v1/ship      {"name": "..."?}     PointReply: all up to there is being shipped
//   POST /v1/revert    {"lsn": N}           RevertReply: the volume is as it was then
//   POST /v1/revert/stop                    AcceptedReply; a revert under way stops
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

/// The point to go back to.
struct RevertRequest: Codable, Sendable {
    var lsn: UInt64
}

/// What going back came to.
struct RevertReply: Codable, Sendable {
    /// The point whose content the volume has now.
    var lsn: UInt64
    var time: String
    /// The marks around what was written; nil when nothing had to be.
    var before: PointReply?
    var after: PointReply?
    /// Bytes that were read from the past and the present to be compared.
    var comparedBytes: UInt64
    /// Bytes that differed: written as data, and discarded.
    var writtenBytes: UInt64
    var zeroedBytes: UInt64

    enum CodingKeys: String, CodingKey {
        case lsn, time, before, after
        case comparedBytes = "compared_bytes"
        case writtenBytes = "written_bytes"
        case zeroedBytes = "zeroed_bytes"
    }
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

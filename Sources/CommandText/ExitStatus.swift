// Exit codes of every command, and the one form of an error message. docs/operations.md shows the
// same table to users.

/// What a command's exit code says.
public enum ExitStatus: Int32, Sendable, CaseIterable {
    case done = 0
    case failed = 1
    /// Done, but not all of it; the message says what is missing.
    case incomplete = 3
    case noSuchVolume = 10
    case inUse = 11
    case notRestorable = 12
    /// Damaged; the valid part is kept.
    case damaged = 13
    case unreachable = 14
    /// Refused by authentication or permission.
    case refused = 15
    case usage = 64
    case interrupted = 130
}

/// A failure as the user sees it: `logdisk: <verb> <object>: <what happened> (<cause>)`, then
/// `hint: <next command>` on a line of its own.
public struct CommandFailure: Error, Hashable, Sendable {
    public var status: ExitStatus
    /// What the verb was applied to, as the user named it; may be empty.
    public var object: String
    public var what: String
    public var cause: String?
    public var hint: String?

    public init(
        _ status: ExitStatus, _ object: String, _ what: String, cause: String? = nil,
        hint: String? = nil
    ) {
        self.status = status
        self.object = object
        self.what = what
        self.cause = cause
        self.hint = hint
    }

    /// What happened and why, without verb, object and hint.
    public var sentence: String { what + (cause.map { " (\($0))" } ?? "") }

    /// The message for standard error, without a final newline.
    public func text(verb: String) -> String {
        let subject = [verb, object].filter { !$0.isEmpty }.joined(separator: " ")
        var line = "logdisk: " + (subject.isEmpty ? "" : subject + ": ") + sentence
        if let hint { line += "\nhint: \(hint)" }
        return line
    }

    public static let interrupted = CommandFailure(
        .interrupted, "", "interrupted", cause: "nothing half-made is left")
}

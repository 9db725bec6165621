// What a request about a backup device asks for, from its method and the words of its path behind
// the device. Pure and total, as Call: names are checked here, and nothing else meets other ones.

import ServerAPI

/// One operation on the sets of a device.
enum BackupCall: Hashable, Sendable {
    case show
    case begin(String)
    case commit(String)
    case remove(String)
    case release(String)
    case list(String)
    case file(String, String)
    case append(String, String)
    case finish(String, String)
    case removeFile(String, String)

    /// Throws `.noPath`, `.malformed` or `.missing`. `verb` is never HEAD.
    init(_ verb: String, _ words: [Substring]) throws(ErrorReply) {
        guard let first = words.first else {
            guard verb == "GET" else { throw Call.noPath }
            self = .show
            return
        }
        guard ServerAPI.isSetID(first) else {
            throw ErrorReply(.malformed, "the id of a set takes 32 digits 0-9 a-f")
        }
        let id = String(first)
        if words.count == 3, words[1] == "files" {
            self = try Self.file(verb, id, words[2])
            return
        }
        switch (verb, Array(words[1...])) {
        case ("PUT", []): self = .begin(id)
        case ("POST", []): self = .commit(id)
        case ("DELETE", []): self = .remove(id)
        case ("DELETE", ["writer"]): self = .release(id)
        case ("GET", ["files"]): self = .list(id)
        default: throw Call.noPath
        }
    }

    private static func file(
        _ verb: String, _ id: String, _ word: Substring
    ) throws(ErrorReply) -> BackupCall {
        guard ServerAPI.isSetFile(word) else {
            throw ErrorReply(.missing, "this is no name of a file of a set")
        }
        let name = String(word)
        switch verb {
        case "GET": return .file(id, name)
        case "PATCH": return .append(id, name)
        case "POST": return .finish(id, name)
        case "DELETE": return .removeFile(id, name)
        default: throw Call.noPath
        }
    }

    /// What a token must allow. Whether a set may go depends on whether it is visible.
    var level: AccessLevel {
        switch self {
        case .show, .list, .file: .readOnly
        case .begin, .commit, .remove, .release, .append, .finish, .removeFile: .appendOnly
        }
    }
}

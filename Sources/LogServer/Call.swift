// What a request asks for, from its method and path. Pure and total: names are checked here once
// and for all, so that nothing else ever meets `..`, a slash, a NUL or an over-long word. Names
// hold no characters that are escaped, so a path with a `%` names nothing.

import History
import ServerAPI

/// One operation of the interface.
enum Call: Hashable, Sendable {
    case health, openAPI, metrics, listVolumes
    case volume(String)
    case makeVolume(String)
    case takeOver(String)
    case retain(String)
    case listSegments(String)
    case segment(String, SegmentName)
    case deleteSegment(String, SegmentName)
    case upload(String, String)
    case append(String, String)
    case commit(String, String)
    case dropUpload(String, String)
    case lease(String)
    case renewLease(String, String)
    case releaseLease(String, String)
    /// Of a backup device.
    case backup(String, BackupCall)

    private static let pathBytesMax = 1024

    /// Throws `.noPath`, `.malformed` or `.missing`.
    init(method: String, target: String) throws(ErrorReply) {
        guard target.utf8.count <= Self.pathBytesMax else {
            throw ErrorReply(.malformed, "the path is too long")
        }
        // Nothing here takes a query.
        let path = target.prefix { $0 != "?" && $0 != "#" }
        guard path.first == "/" else { throw ErrorReply(.malformed, "the path is not understood") }
        let words = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        // What answers GET answers HEAD.
        let verb = method == "HEAD" ? "GET" : method
        if let call = Self.fixed(verb, words) {
            self = call
            return
        }
        let isBackup = words.count > 1 && words[1] == "backups"
        guard words.count >= 3, words[0] == "v1", words[1] == "volumes" || isBackup else {
            throw Self.noPath
        }
        guard ServerAPI.isVolumeName(words[2]) else {
            throw ErrorReply(
                .malformed, "this is no name of a \(isBackup ? "backup device" : "volume")",
                hint: "1 to 100 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
        }
        if isBackup {
            self = .backup(String(words[2]), try BackupCall(verb, Array(words[3...])))
            return
        }
        self = try Self.call(verb, volume: String(words[2]), words[3...])
    }

    private static func fixed(_ verb: String, _ words: [Substring]) -> Call? {
        guard verb == "GET" else { return nil }
        switch words {
        case ["v1", "health"]: return .health
        case ["openapi.yaml"]: return .openAPI
        case ["metrics"]: return .metrics
        case ["v1", "volumes"]: return .listVolumes
        default: return nil
        }
    }

    private static func call(
        _ verb: String, volume: String, _ words: ArraySlice<Substring>
    ) throws(ErrorReply) -> Call {
        let rest = Array(words)
        if rest.count == 2 { return try call(verb, volume: volume, rest[0], rest[1]) }
        switch (verb, rest) {
        case ("GET", []): return .volume(volume)
        case ("PUT", []): return .makeVolume(volume)
        case ("POST", ["writer"]): return .takeOver(volume)
        case ("PUT", ["retention"]): return .retain(volume)
        case ("GET", ["segments"]): return .listSegments(volume)
        case ("POST", ["leases"]): return .lease(volume)
        default: throw noPath
        }
    }

    private static func call(
        _ verb: String, volume: String, _ kind: Substring, _ word: Substring
    ) throws(ErrorReply) -> Call {
        switch (verb, kind) {
        case ("GET", "segments"): return .segment(volume, try segment(word))
        case ("DELETE", "segments"): return .deleteSegment(volume, try segment(word))
        case ("GET", "uploads"): return .upload(volume, try id(word))
        case ("PATCH", "uploads"): return .append(volume, try id(word))
        case ("POST", "uploads"): return .commit(volume, try id(word))
        case ("DELETE", "uploads"): return .dropUpload(volume, try id(word))
        case ("PUT", "leases"): return .renewLease(volume, try id(word))
        case ("DELETE", "leases"): return .releaseLease(volume, try id(word))
        default: throw noPath
        }
    }

    private static func segment(_ word: Substring) throws(ErrorReply) -> SegmentName {
        guard let name = SegmentName(String(word)) else {
            throw ErrorReply(.missing, "this is no name of a segment")
        }
        return name
    }

    private static func id(_ word: Substring) throws(ErrorReply) -> String {
        guard ServerAPI.isUploadID(word) else {
            throw ErrorReply(.malformed, "an id takes letters, digits, dots, dashes, underscores")
        }
        return String(word)
    }

    static let noPath = ErrorReply(.noPath, "there is no such path or method")

    /// The volume or backup device that it is about.
    var volume: String? {
        switch self {
        case .health, .openAPI, .metrics, .listVolumes: nil
        case .volume(let name), .makeVolume(let name), .takeOver(let name), .retain(let name),
            .listSegments(let name), .segment(let name, _), .deleteSegment(let name, _),
            .upload(let name, _), .append(let name, _), .commit(let name, _),
            .dropUpload(let name, _), .lease(let name), .renewLease(let name, _),
            .releaseLease(let name, _), .backup(let name, _):
            name
        }
    }

    /// What a token must allow; nil: anybody may.
    var level: AccessLevel? {
        switch self {
        case .health, .openAPI: nil
        // Who reads must be able to keep what it reads.
        case .metrics, .listVolumes, .volume, .listSegments, .segment, .upload, .lease, .renewLease,
            .releaseLease:
            .readOnly
        // Whether a ladder may be changed depends on the volume.
        case .makeVolume, .takeOver, .retain, .append, .commit, .dropUpload: .appendOnly
        case .deleteSegment: .full
        case .backup(_, let call): call.level
        }
    }

    /// Bytes of its JSON body, at the most; nil: it takes none.
    var bodyBytesMax: Int? {
        switch self {
        case .makeVolume, .takeOver, .retain, .commit: 64 << 10
        case .lease: ServerAPI.bodyBytesMax
        default: nil
        }
    }
}

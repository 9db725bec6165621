// Folders for what commands show to programs and take away again.

import CommandText
import Foundation

enum TemporaryFolder {
    /// A new folder, the user's own, whose name begins with `logdisk-` and `kind`; where TMPDIR
    /// says. Who calls removes it.
    static func make(_ kind: String, object: String) throws(CommandFailure) -> String {
        let base = FileManager.default.temporaryDirectory.path
        var template = Array("\(base)/logdisk-\(kind)-XXXXXX".utf8CString)
        // mkdtemp writes the name into the template: no name that somebody else could guess.
        guard mkdtemp(&template) != nil else {
            throw CommandFailure(
                .failed, object, "cannot make a folder in \(base)",
                cause: String(cString: strerror(errno)), hint: "set TMPDIR to a folder with room")
        }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

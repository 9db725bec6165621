// A volume at a log server: its URL, and the connection, made when first needed.

import CommandText
import Foundation

/// One volume at a log server. Any thread may call; calls block.
final class RemoteVolume: Sendable {
    let url: String
    let files: RemoteAccessFiles

    init(url: String, _ files: RemoteAccessFiles) {
        (self.url, self.files) = (url, files)
    }

    /// Whether the user means a URL and no path.
    static func isURL(_ text: String) -> Bool {
        ["https://", "http://"].contains { text.lowercased().hasPrefix($0) }
    }

    func open(object: String) throws(CommandFailure) -> ArchivedVolume {
        throw CommandFailure(.unreachable, object, "no log server can be asked")
    }
}

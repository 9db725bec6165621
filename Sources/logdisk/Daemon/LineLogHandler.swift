// The log of a mount: a line each on standard error, `TIME level: message`.

import CLinux
import CommandText
import Logging

struct LineLogHandler: LogHandler {
    var logLevel = Logger.Level.info
    var metadata = Logger.Metadata()

    /// The log of this process, once.
    static func begin() -> Logger {
        LoggingSystem.bootstrap { _ in LineLogHandler() }
        var log = Logger(label: "logdisk")
        log.logLevel = .info
        return log
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        // Milliseconds are enough here.
        let wall = clinux_wall_ns() / 1_000_000 * 1_000_000
        Terminal.error("\(TimeText.rfc3339(wall)) \(event.level): \(event.message)")
    }
}

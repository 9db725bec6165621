// What a command needs to read a volume that lies at a log server or is encrypted.

import ArgumentParser
import CommandText
import Foundation

struct RemoteOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "For a URL: the file that holds the token (or LOGDISK_TOKEN_FILE).", valueName: "FILE"))
    var tokenFile: String?

    @Option(
        help: ArgumentHelp(
            "For a URL: trust the certificates in this file, instead of the system's "
                + "(or LOGDISK_CA).", valueName: "FILE"))
    var ca: String?

    @Option(
        help: ArgumentHelp(
            "The key, where the volume is encrypted (or LOGDISK_KEY_FILE).", valueName: "FILE"))
    var keyFile: String?

    /// What was given, or stands in the environment. Paths are made absolute.
    var access: RemoteAccessFiles {
        func path(_ given: String?, _ variable: String) -> String? {
            let text = given ?? ProcessInfo.processInfo.environment[variable]
            return text.flatMap { $0.isEmpty ? nil : PathText.canonical($0) }
        }
        return RemoteAccessFiles(
            token: path(tokenFile, "LOGDISK_TOKEN_FILE"), ca: path(ca, "LOGDISK_CA"),
            key: path(keyFile, "LOGDISK_KEY_FILE"))
    }

    /// What another process of this program is started with, to the same effect.
    var arguments: [String] {
        let given = [("--token-file", tokenFile), ("--ca", ca), ("--key-file", keyFile)]
        return given.flatMap { name, value in value.map { [name, $0] } ?? [] }
    }

    /// Refuses options that have no meaning for `source`.
    func check(_ source: HistorySource, _ object: String) throws(CommandFailure) {
        let unfit: String? =
            switch source {
            case .remote: nil
            case .storeFolder: tokenFile != nil ? "--token-file" : ca != nil ? "--ca" : nil
            case .volume:
                tokenFile != nil
                    ? "--token-file" : ca != nil ? "--ca" : keyFile != nil ? "--key-file" : nil
            }
        guard let unfit else { return }
        throw CommandFailure(
            .usage, object, "\(unfit) is for a volume at a log server",
            cause: "\(object) lies on this machine", hint: "https://HOST:PORT/VOLUME names one")
    }
}

extension ArgumentHelp {
    /// What the commands that only read take as their object.
    static var readable: ArgumentHelp {
        ArgumentHelp(
            "Volume, mount point, folder of a log server's store, or https://HOST:PORT/VOLUME.",
            valueName: "VOL")
    }
}

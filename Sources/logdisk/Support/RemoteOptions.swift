// What a command needs to read a volume that lies at a remote or is encrypted.

import ArgumentParser
import CommandText
import Foundation

struct RemoteOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "For https://: the file that holds the token (or LOGDISK_TOKEN_FILE).",
            valueName: "FILE"))
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

    @OptionGroup var object: ObjectOptions

    /// What was given, or stands in the environment. Paths are made absolute.
    var access: RemoteAccessFiles {
        func path(_ given: String?, _ variable: String) -> String? {
            let text = given ?? ProcessInfo.processInfo.environment[variable]
            return text.flatMap { $0.isEmpty ? nil : PathText.canonical($0) }
        }
        var files = RemoteAccessFiles(
            token: path(tokenFile, "LOGDISK_TOKEN_FILE"), ca: path(ca, "LOGDISK_CA"),
            key: path(keyFile, "LOGDISK_KEY_FILE"))
        files.object = object.settings
        return files
    }

    /// What another process of this program is started with, to the same effect.
    var arguments: [String] {
        let given = [("--token-file", tokenFile), ("--ca", ca), ("--key-file", keyFile)]
        return given.flatMap { name, value in value.map { [name, $0] } ?? [] } + object.arguments
    }

    /// Refuses options that have no meaning for `source`.
    func check(_ source: HistorySource, _ object: String) throws(CommandFailure) {
        let token = tokenFile.map { _ in "--token-file" }
        let trust = ca.map { _ in "--ca" }
        let key = keyFile.map { _ in "--key-file" }
        let unfit: String? =
            switch source {
            case .remote(let volume):
                volume.place.kind == .objectStorage ? token : self.object.given
            case .storeFolder: token ?? trust ?? self.object.given
            case .volume: token ?? trust ?? key ?? self.object.given
            }
        if let unfit { throw .unfit(unfit, for: object) }
    }
}

extension CommandFailure {
    /// An option that has no meaning for the volume that was named.
    static func unfit(_ option: String, for object: String) -> CommandFailure {
        let isObject = ObjectOptions.names.contains(option)
        let kind = isObject ? RemoteKind.objectStorage : .logServer
        let lies =
            RemotePlace.isMeant(by: object)
            ? "\(object) lies \(RemoteKind(url: object).place)" : "\(object) lies on this machine"
        return CommandFailure(
            .usage, object, "\(option) is for a volume \(kind.place)", cause: lies,
            hint: isObject ? "s3://BUCKET/PREFIX names one" : "https://HOST:PORT/VOLUME names one")
    }
}

extension ArgumentHelp {
    /// What the commands that only read take as their object.
    static var readable: ArgumentHelp {
        ArgumentHelp(
            "Volume, mount point, folder of a log server's store, https://HOST:PORT/VOLUME or "
                + "s3://BUCKET/PREFIX.",
            valueName: "VOL")
    }
}

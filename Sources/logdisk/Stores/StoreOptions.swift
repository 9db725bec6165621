// Options of `create` for a volume that keeps its history on object storage.

import ArgumentParser
import CommandText
import History
import Shipping

struct StoreOptions: ParsableArguments {
    /// What such a volume calls the remote.
    static let remoteName = "store"

    @Option(
        help: ArgumentHelp(
            "Keep the history there and not here: s3://BUCKET/PREFIX.", valueName: "URL"))
    var store: String?

    @Option(
        help: ArgumentHelp(
            "With --store: what stays there, thinned by the mount; see logdisk help prune.",
            valueName: "LADDER"))
    var keep: String?

    @Option(
        help: ArgumentHelp(
            "With --store: hold the writers when so much waits here (default: no bound but the "
                + "disk).", valueName: "SIZE"))
    var maxBacklog: String?

    @Option(
        help: ArgumentHelp(
            "With --store: collect records for so long before they go (default 15s).",
            valueName: "TIME"))
    var batch: String?

    @Option(
        help: ArgumentHelp(
            "With --store: encrypt with this key before it leaves.", valueName: "FILE"))
    var keyFile: String?

    @Option(
        help: ArgumentHelp(
            "With --store: certificates to trust instead of the system's, PEM; may be repeated.",
            valueName: "FILE"))
    var ca: [String] = []

    @OptionGroup var object: ObjectOptions

    @OptionGroup var writing: ObjectWriterOptions

    /// The store of a volume in the folder `path`; nil: it keeps its history itself.
    func creation(_ volume: String, _ path: String) throws(CommandFailure) -> StoreCreation? {
        guard let store else {
            let given = [
                keep.map { _ in "--keep" }, maxBacklog.map { _ in "--max-backlog" },
                batch.map { _ in "--batch" }, keyFile.map { _ in "--key-file" },
                ca.isEmpty ? nil : "--ca", object.given, writing.given,
            ]
            guard let option = given.compactMap({ $0 }).first else { return nil }
            throw CommandFailure(
                .usage, volume, "\(option) needs --store",
                hint: "logdisk create \(volume) --size 10G --store s3://BUCKET/PREFIX")
        }
        guard RemoteKind(url: store) == .objectStorage else {
            throw CommandFailure(
                .usage, volume, "--store \(store) is not on object storage",
                hint: "s3://BUCKET/PREFIX; to a log server: logdisk remote add")
        }
        let url: String
        do throws(RemoteSetupError) { url = try RemotePlace.url(store, for: path) } catch {
            throw CommandFailure(error, object: store)
        }
        var config = RemoteConfig(name: Self.remoteName, url: url)
        config.role = .store
        config.when = "always"
        config.ca = ca.map { PathText.canonical($0) }
        config.keyFile = keyFile.map { PathText.canonical($0) }
        var settings = object.settings
        try writing.apply(to: &settings)
        config.object = settings
        if let keep { config.keep = try Pruning.ladder(keep, volume).description }
        config.backlogBytesMax = try maxBacklog.map { text throws(CommandFailure) in
            try OptionText.size(text, "--max-backlog")
        }
        config.batchSeconds = try batch.map { text throws(CommandFailure) in
            try OptionText.duration(text, "--batch")
        }
        if let keyFile = config.keyFile {
            _ = try translating(volume) { try KeyFile.read(keyFile) }
        }
        return StoreCreation(config: config, object: volume)
    }
}

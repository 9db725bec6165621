// logdisk serve: a log server for many computers.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import History
import LogServer
import Logging

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Keep the history of many computers, for logdisk remote.",
        discussion: """
            STORE is a folder; an empty or missing one is made a store. In it lies a folder for \
            each volume, whose segments every read command takes: logdisk points STORE/VOLUME. \
            Clients need a token: logdisk access create STORE --name NAME.

            The server runs until SIGTERM or SIGINT; then requests under way end. SIGHUP reads \
            the certificate again. Plain HTTP is served with --insecure only, to this machine only.

              logdisk serve /srv/logs --listen 0.0.0.0:7000 --tls-cert server.pem --tls-key key.pem
              logdisk serve /tmp/store --listen [::1]:0 --insecure
            """)

    @Argument(help: ArgumentHelp("The folder with the store.", valueName: "STORE"))
    var store: String

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Address and port to listen on; port 0 takes a free one.", valueName: "ADDR:PORT"))
    var listen: String

    @Option(
        name: .long,
        help: ArgumentHelp("The certificate and those it needs, PEM.", valueName: "FILE"))
    var tlsCert: String?

    @Option(name: .long, help: ArgumentHelp("Its private key, PEM.", valueName: "FILE"))
    var tlsKey: String?

    @Flag(name: .long, help: "Plain HTTP; on loopback addresses only.")
    var insecure = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The ladder of new volumes that come without one; else everything is kept.",
            valueName: "LADDER"))
    var keep: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Take nothing while less is free on the disk (default: 1 % of it).",
            valueName: "SIZE"))
    var reserve: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        let address = try listenAddress()
        let certificate = try certificate(address)
        var settings = LogServerConfiguration(
            storage: DiskStorage(), store: Self.path(store), host: address.host,
            port: address.port, certificate: certificate, log: LineLogHandler.begin())
        settings.version = Version.text
        settings.keep = try keep.map { try Pruning.ladder($0, store) }
        settings.reserveBytes = try reserve.map { try OptionText.size($0, "--reserve") } ?? 0
        Self.allowManyFiles()
        // Before other threads start: they inherit the mask.
        SignalMask.block([SIGINT, SIGTERM, SIGHUP])
        let (server, port) = try start(settings)
        try announce(ListenAddress(host: address.host, port: port), certificate)
        ServiceNotifier.tell("READY=1")
        serve(server, log: settings.log)
        ServiceNotifier.tell("STOPPING=1")
        settings.log.notice("stopping: requests under way end")
        server.stop()
        settings.log.notice("stopped")
    }

    /// Until a signal ends it.
    private func serve(_ server: LogServer, log: Logger) {
        while SignalMask.wait(for: [SIGINT, SIGTERM, SIGHUP]) == SIGHUP {
            do throws(LogServerError) {
                try server.reloadCertificate()
                log.notice("the certificate was read again")
            } catch {
                let text = CommandFailure(error, object: store).sentence
                log.error("the certificate stays as it was: \(text)")
            }
        }
    }

    private func start(
        _ settings: LogServerConfiguration
    ) throws(CommandFailure) -> (LogServer, port: Int) {
        do throws(LogServerError) {
            var settings = settings
            if reserve == nil {
                // Made first, so that its disk can be asked.
                do throws(ServerStoreError) {
                    _ = try ServerStore(openingOrMaking: settings.store, in: settings.storage)
                } catch { throw LogServerError.store(error) }
                settings.reserveBytes = Self.capacity(settings.store) / 100
            }
            let server = try LogServer(settings)
            return (server, try server.start())
        } catch {
            throw CommandFailure(error, object: store)
        }
    }

    private func announce(
        _ address: ListenAddress, _ certificate: LogServerConfiguration.Certificate?
    ) throws {
        let url = "\(certificate == nil ? "http" : "https")://\(address)"
        if output.json {
            try Terminal.json(Started(url: url, port: address.port, pid: getpid()))
        } else {
            Terminal.out("serving \(store) on \(url)")
        }
        fflush(nil)
    }

    private struct Started: Encodable {
        var url: String
        var port: Int
        var pid: Int32
    }

    // MARK: options

    private func listenAddress() throws(CommandFailure) -> ListenAddress {
        do throws(ListenAddress.Failure) {
            return try ListenAddress(parsing: listen)
        } catch {
            throw CommandFailure(
                .usage, "", "--listen \(listen.isEmpty ? "''" : listen) is no ADDR:PORT",
                cause: error.reason, hint: "for example --listen 0.0.0.0:7000 or [::1]:7000")
        }
    }

    private func certificate(
        _ address: ListenAddress
    ) throws(CommandFailure) -> LogServerConfiguration.Certificate? {
        switch (tlsCert, tlsKey) {
        case (let chain?, let key?):
            if insecure {
                throw CommandFailure(
                    .usage, "", "--insecure and --tls-cert exclude each other",
                    hint: "leave out --insecure: with a certificate TLS is served")
            }
            return LogServerConfiguration.Certificate(chain: chain, key: key)
        case (nil, nil):
            guard insecure else {
                throw CommandFailure(
                    .usage, "", "a certificate is missing",
                    hint: "--tls-cert FILE --tls-key FILE, or --insecure on 127.0.0.1")
            }
            return nil
        default:
            throw CommandFailure(
                .usage, "", "--tls-cert and --tls-key go together",
                hint: "give both: --tls-cert FILE --tls-key FILE")
        }
    }

    /// Without slashes at its end.
    static func path(_ text: String) -> String {
        var text = text
        while text.count > 1, text.hasSuffix("/") { text.removeLast() }
        return text
    }

    /// Bytes of the file system; 0 where they are not known.
    private static func capacity(_ path: String) -> UInt64 {
        var facts = statvfs()
        guard statvfs(path, &facts) == 0 else { return 0 }
        return UInt64(facts.f_blocks) * UInt64(facts.f_frsize)
    }

    /// Segments that are read and connections are open files.
    private static func allowManyFiles() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

extension CommandFailure {
    init(_ error: LogServerError, object: String) {
        switch error {
        case .store(let failure): self.init(failure, object: object)
        case .certificate(let text):
            self.init(
                .failed, object, "the certificate cannot be used", cause: text,
                hint: "look at it: openssl x509 -in FILE -noout -text")
        case .address(let text):
            self.init(
                .failed, object, "the address cannot be listened on", cause: text,
                hint: "choose another port, or 0 for a free one")
        case .insecure(let host):
            self.init(
                .usage, object, "--insecure serves this machine only", cause: "not \(host)",
                hint: "--listen 127.0.0.1:7000, or give a certificate")
        }
    }

    init(_ error: ServerStoreError, object: String) {
        switch error {
        case .notAStore(let path):
            self.init(
                .noSuchVolume, object, "there is no store in \(path)",
                hint: "an empty or missing folder is made one by: logdisk serve")
        case .futureVersion(let path):
            self.init(
                .failed, object, "\(path) was written by a newer logdisk",
                hint: "use that version; nothing was changed")
        case .inUse(let path):
            self.init(
                .inUse, object, "another server serves it", cause: path,
                hint: "find it with: fuser -v \(path)/.logdisk/store")
        case .io(let failure): self.init(failure, object: object)
        }
    }

    init(_ error: AccessError, object: String) {
        switch error {
        case .badName(let name):
            self.init(
                .usage, object, "'\(name)' is no name of a token",
                hint: "1 to 100 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
        case .badPattern(let pattern):
            self.init(
                .usage, object, "'\(pattern)' is no pattern of volumes",
                hint: "for example --volumes 'db*'")
        case .exists(let name):
            self.init(
                .usage, object, "there is a token \(name) already",
                hint: "logdisk access revoke \(object) --name \(name)")
        case .missing(let name):
            self.init(
                .noSuchVolume, object, "there is no token \(name)",
                hint: "logdisk access list \(object)")
        case .unreadable(let name):
            self.init(
                .damaged, object, "the file of token \(name) is not understood",
                hint: "logdisk access revoke \(object) --name \(name)")
        case .io(let failure): self.init(failure, object: object)
        }
    }
}

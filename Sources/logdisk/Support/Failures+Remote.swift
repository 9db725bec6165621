// What goes wrong with a log server, in the words and exit codes of the command line: 14 where it
// does not answer, 15 where it does not let us in.

import CommandText
import ServerAPI
import Shipping

extension CommandFailure {
    init(_ error: ShipError, object: String) {
        switch error {
        case .unreachable(let why):
            self.init(
                .unreachable, object, "the log server is not reachable", cause: why,
                hint: "is it running, and is the way there open?")
        case .busy(let seconds, let why):
            self.init(
                .unreachable, object, "the log server asks to wait", cause: why,
                hint: "try again in \(seconds) s")
        case .full(let seconds, let why):
            self.init(
                .unreachable, object, "the log server has no room", cause: why,
                hint: "try again in \(seconds) s, when there is room again")
        case .refused(let why):
            self.init(
                .refused, object, "the log server refuses this", cause: why,
                hint: "look at --token-file and --ca; logdisk access list STORE at the server")
        case .fenced(let why):
            self.init(
                .refused, object, "another machine writes this volume now", cause: why,
                hint: "logdisk adopt takes it over; this makes the other one stop shipping")
        case .rejected(let reply): self.init(reply, object: object)
        case .source(let failure): self.init(failure, object: object)
        case .stopped: self = .interrupted
        }
    }

    private init(_ reply: ErrorReply, object: String) {
        let status: ExitStatus =
            switch reply.code {
            case .noVolume: .noSuchVolume
            case .unauthenticated, .forbidden, .fenced: .refused
            case .damaged: .damaged
            case .full, .busy: .unreachable
            case .leased: .inUse
            default: .failed
            }
        self.init(status, object, "the log server says no", cause: reply.what, hint: reply.hint)
    }

    init(_ error: RemoteSetupError, object: String) {
        self.init(.usage, object, error.what, hint: error.hint ?? "https://HOST:PORT/VOLUME")
    }
}

/// Runs `body`, which asks a log server about `object`.
func asking<R>(_ object: String, _ body: () throws(ShipError) -> R) throws(CommandFailure) -> R {
    do throws(ShipError) { return try body() } catch {
        throw CommandFailure(error, object: object)
    }
}

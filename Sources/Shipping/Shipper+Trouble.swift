// What the shipper makes of failures: try again later, ask the remote again, or stop for good.

import History
import ServerAPI

extension Shipper {
    func handle(_ trouble: ShipTrouble) {
        let now = setup.clock.now()
        switch trouble {
        case .failed(let text): fail(text)
        case .standing(let text): stand(text)
        case .ship(let error):
            switch error {
            case .stopped: return
            case .busy(let seconds, _):
                state.withLock { $0.schedule.noteAskedToWait(seconds: seconds, now: now) }
            case .full(let seconds, _):
                state.withLock {
                    $0.schedule.noteAskedToWait(seconds: seconds, now: now)
                    $0.failure = error.words
                    $0.needsUser = true
                }
                log.error("remote \(setup.name): \(error.words)")
            case .unreachable: fail(error.words)
            case .refused:
                work.isAttached = false
                state.withLock { $0.needsUser = true }
                fail(error.words)
            case .fenced: stand(error.words)
            case .rejected(let reply): handle(reply, error)
            case .source(let failure):
                // Pruned or thinned meanwhile: the next plan knows.
                if failure.cause == .missing { state.withLock { $0.hasNews = true } }
                fail(error.words)
            }
        }
    }

    private func handle(_ reply: ErrorReply, _ error: ShipError) {
        work.isAttached = false  // ask again where it stands
        switch reply.code {
        case .otherVolume, .fenced: stand(error.words)
        case .gap, .fork, .old, .exists:
            // An answer that was lost explains one; not several in a row.
            work.conflicts += 1
            if work.conflicts >= 3 { stand(error.words) } else { fail(error.words) }
        default: fail(error.words)
        }
    }

    private func fail(_ text: String) {
        let isNew = state.withLock { state in
            let isNew = state.failure != text
            state.failure = text
            state.schedule.noteFailure(text, now: setup.clock.now())
            return isNew
        }
        if isNew { log.warning("remote \(setup.name): \(text)") }
    }

    private func stand(_ text: String) {
        let memory = state.withLock { state in
            state.failure = text
            state.schedule.noteStanding(text)
            state.memory.standing = text
            state.askedThrough = nil
            state.schedule.isAsked = false
            return state.memory
        }
        work.isAttached = false
        remember(memory)
        log.error("remote \(setup.name): stopped: \(text)")
    }
}

extension ShipError {
    /// In words, without the remote's name.
    public var words: String {
        switch self {
        case .unreachable(let text): "not reachable: \(text)"
        case .busy(_, let text): "the remote is busy: \(text)"
        case .full(_, let text): "the remote has no room: \(text)"
        case .refused(let text): "refused: \(text)"
        case .fenced(let text): "somebody else writes this volume there now: \(text)"
        case .rejected(let reply) where reply.code == .damaged:
            "not taken: \(reply.what); logdisk verify tells whether it is damaged here"
        case .rejected(let reply): "not taken: \(reply.what)"
        case .source(let error): "\(error)"
        case .stopped: "stopped"
        }
    }
}

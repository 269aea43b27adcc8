// Follows the coordinator's events. When the stream is cut off, it says since when and begins again after the last event that came.

const PAUSE_MS = 1_000;
const PAUSE_MAX_MS = 20_000;

export class Live {
    /** `heard` gets each event; `changed` gets { connected, since } when the stream begins or is cut off, since in seconds. */
    constructor({ heard, changed, check }) {
        Object.assign(this, { heard, changed, check, last: null, source: null, timer: null, pause: PAUSE_MS, wanted: false });
        addEventListener("online", () => this.#again(0));
        document.addEventListener("visibilitychange", () => this.#seen());
    }

    /** Begins after the event with this id; without one, with the next event. */
    begin(after) {
        if (after !== undefined) this.last = Math.max(this.last ?? 0, after);
        if (this.wanted) return;
        this.wanted = true;
        this.#connect();
    }

    end() {
        this.wanted = false;
        this.last = null;
        this.#close();
        this.changed({ connected: null });
    }

    /** A browser has few connections for one coordinator; pages that nobody looks at leave theirs to others. */
    #seen() {
        if (document.hidden) this.#close();
        else this.#again(0);
    }

    #close() {
        clearTimeout(this.timer);
        this.source?.close();
        this.source = null;
    }

    #connect() {
        this.#close();
        const source = new EventSource(`/v1/events/stream${this.last === null ? "" : `?after=${this.last}`}`);
        this.source = source;
        source.onopen = () => {
            this.pause = PAUSE_MS;
            this.changed({ connected: true });
        };
        source.onmessage = (message) => {
            this.last = Math.max(this.last ?? 0, Number(message.lastEventId));
            this.heard(JSON.parse(message.data));
        };
        source.onerror = () => {
            if (this.source !== source) return;
            this.#close();
            this.changed({ connected: false, since: Math.floor(Date.now() / 1000) });
            this.#again(this.pause * (0.75 + Math.random() / 2));
            this.pause = Math.min(this.pause * 2, PAUSE_MAX_MS);
        };
    }

    #again(afterMs) {
        if (!this.wanted || this.source || document.hidden) return;
        clearTimeout(this.timer);
        this.timer = setTimeout(async () => {
            // An event source does not say why it failed: perhaps nobody is signed in any more.
            if (await this.check() && this.wanted && !this.source) this.#connect();
            else if (this.wanted && !this.source) this.#again(this.pause);
        }, afterMs);
    }
}

// Asks the coordinator. The session is a cookie that scripts cannot read; its second half, `csrf`, is kept here alone.

let csrf = "";
let signedOut = () => {};

/** What was asked for was not done. */
export class Denied extends Error {
    constructor(status, { code, message, next }) {
        super(message);
        Object.assign(this, { status, code, next });
    }
}

const SILENT = {
    code: "unreachable",
    message: "The coordinator does not answer.",
    next: "Is its machine on, and is this one in the same network? This page tries again by itself.",
};

/** Asks, and gives the answer's body. Throws Denied. */
export async function ask(method, path, body, { quiet = false } = {}) {
    const headers = {};
    if (method !== "GET" && csrf) headers["x-orangery-csrf"] = csrf;
    if (body !== undefined) headers["content-type"] = "application/json";
    let answer;
    try {
        answer = await fetch(path, {
            method, headers, body: body === undefined ? undefined : JSON.stringify(body),
            credentials: "same-origin", redirect: "error", signal: AbortSignal.timeout(30_000),
        });
    } catch {
        throw new Denied(0, SILENT);
    }
    const said = await told(answer);
    if (answer.ok) return said;
    if (answer.status === 401 && !quiet) signedOut();
    throw new Denied(answer.status, {
        code: said?.code ?? `http_${answer.status}`,
        message: said?.message ?? `The coordinator answered with status ${answer.status}.`,
        next: said?.next,
    });
}

async function told(answer) {
    const text = await answer.text().catch(() => "");
    try {
        return text ? JSON.parse(text) : null;
    } catch {
        return null;
    }
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);

/** Calls `then` when the coordinator does not know the session any more. */
export function whenSignedOut(then) {
    signedOut = then;
}

function begun(session) {
    csrf = session.csrf;
    return session;
}

/** Who is signed in; null if nobody is. Throws Denied if the coordinator does not say. */
export async function whoAmI() {
    try {
        return begun(await ask("GET", "/v1/session", undefined, { quiet: true }));
    } catch (error) {
        if (error.status === 401) return null;
        throw error;
    }
}

export const signIn = async (user, password) => begun(await ask("POST", "/v1/session", { user, password }, { quiet: true }));

export async function signOut() {
    await ask("DELETE", "/v1/session", undefined, { quiet: true });
    csrf = "";
}

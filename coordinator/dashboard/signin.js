// Signing in.

import { signIn } from "./api.js";
import { field } from "./confirm.js";
import { h, update } from "./dom.js";
import { problem } from "./parts.js";

/** The page for whoever is not signed in; `then` gets the session. */
export function signInPage(reason, then) {
    const trouble = h("div", {});
    const button = h("button", { type: "submit", class: "primary" }, "Sign in");
    async function submit(event) {
        event.preventDefault();
        if (button.disabled) return;
        button.disabled = true;
        update(trouble);
        const said = new FormData(form);
        try {
            then(await signIn(said.get("user"), said.get("password")));
        } catch (error) {
            button.disabled = false;
            update(trouble, problem(error));
            form.elements.password.select();
        }
    }
    const form = h("form", { onsubmit: submit },
        reason && h("p", { class: "note", role: "status" }, reason),
        field({ name: "user", label: "User", needed: true, autocomplete: "username", autocapitalize: "none", spellcheck: "false", maxlength: 63 }),
        field({ name: "password", label: "Password", needed: true, type: "password", autocomplete: "current-password" }),
        trouble, button);
    return h("main", { class: "alone", id: "main", tabindex: "-1" },
        h("img", { src: "/assets/icon.svg", alt: "", width: 48, height: 48 }),
        h("h1", {}, "Orangery"), form,
        h("p", { class: "hint" }, "No password yet? An admin gives you one: ",
            h("code", {}, "orangery user password NAME"), "."));
}

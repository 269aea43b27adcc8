// Asks before something is done: what will happen, perhaps why, and one button that says what it does.

import { h, update } from "./dom.js";
import { problem } from "./parts.js";

/** Shows a dialog; `act(values)` does it. Closes when that is done, and tells in the dialog why it was not. */
export function confirm({ title, says, verb, grave = false, fields = [], act }) {
    const trouble = h("div", {});
    const button = h("button", { type: "submit", class: grave ? "grave" : "primary" }, verb);
    const close = () => dialog.close();
    const form = h("form", { method: "dialog", onsubmit: submit },
        h("h2", { id: "dialog-title" }, title), says, fields.map(field), trouble,
        h("div", { class: "buttons" }, h("button", { type: "button", class: "plain", onclick: close }, "Cancel"), button));
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", onclose: () => dialog.remove() }, form);

    async function submit(event) {
        event.preventDefault();
        if (button.disabled) return;
        button.disabled = true;
        update(trouble);
        try {
            await act(Object.fromEntries(new FormData(form)));
            dialog.close();
        } catch (error) {
            button.disabled = false;
            update(trouble, problem(error));
        }
    }

    document.body.append(dialog);
    dialog.showModal();
}

/** A labelled field: { name, label, hint, needed, options, ... } */
export function field({ name, label, hint, needed, options, ...attributes }) {
    const id = `field-${name}`;
    const described = hint ? `${id}-hint` : null;
    const common = { id, name, required: needed, "aria-describedby": described, autocomplete: "off", ...attributes };
    const control = options
        ? h("select", common, options.map(([value, text]) => h("option", { value }, text)))
        : h("input", { maxlength: 1024, ...common });
    return h("div", { class: "field" }, h("label", { for: id }, label), control,
        hint && h("p", { class: "hint", id: described }, hint));
}

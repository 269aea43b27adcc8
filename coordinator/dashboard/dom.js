// Builds elements. A text becomes a text node and never markup; nothing else in the dashboard makes elements.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("p", { class: "note", onclick: f, key: "a" }, "text", h("b", {}, "more")). What is null or false is left out. */
export function h(tag, attributes = {}, ...children) {
    return filled(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function svg(tag, attributes = {}, ...children) {
    return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        if (value === null || value === undefined || value === false) continue;
        if (name.startsWith("on")) listen(element, name.slice(2), value);
        else if (name === "key") element.key = value;
        else element.setAttribute(name, value === true ? "" : String(value));
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    return element;
}

/** Listens by way of the element, so that an update can give it another listener. */
function listen(element, kind, listener) {
    element.listeners ??= new Map();
    if (!element.listeners.has(kind)) {
        element.addEventListener(kind, (event) => event.currentTarget.listeners.get(kind)?.(event));
    }
    element.listeners.set(kind, listener);
}

/** Makes the children of `parent` be like `wanted`, and changes no more than that takes: focus, selection and place stay. */
export function update(parent, ...wanted) {
    const fresh = wanted.flat(Infinity).filter((node) => node !== null && node !== undefined && node !== false)
        .map((node) => (node instanceof Node ? node : document.createTextNode(node)));
    const keyed = new Map();
    for (const child of parent.childNodes) if (child.key !== undefined) keyed.set(child.key, child);
    let place = parent.firstChild;
    for (const node of fresh) {
        const known = node.key === undefined ? place : keyed.get(node.key);
        if (known && isLike(known, node)) {
            if (known === place) place = place.nextSibling;
            else parent.insertBefore(known, place);
            become(known, node);
        } else {
            parent.insertBefore(node, place);
        }
    }
    while (place) {
        const next = place.nextSibling;
        place.remove();
        place = next;
    }
}

function isLike(known, node) {
    return known.nodeType === node.nodeType && known.nodeName === node.nodeName && known.key === node.key;
}

/** What somebody opened, ticked or wrote is theirs. */
const THEIRS = new Set(["open", "value", "checked"]);

function become(known, node) {
    if (known === node) return;
    if (known.nodeType !== Node.ELEMENT_NODE) {
        if (known.data !== node.data) known.data = node.data;
        return;
    }
    for (const { name } of [...known.attributes]) {
        if (!node.hasAttribute(name) && !THEIRS.has(name)) known.removeAttribute(name);
    }
    for (const { name, value } of [...node.attributes]) {
        if (known.getAttribute(name) !== value && !THEIRS.has(name)) known.setAttribute(name, value);
    }
    // A kind that was listened to once stays, without a listener: the way to the element is laid once.
    for (const kind of known.listeners?.keys() ?? []) known.listeners.set(kind, null);
    for (const [kind, listener] of node.listeners ?? []) listen(known, kind, listener);
    update(known, ...node.childNodes);
}

// Reads a landing URL as kit/capture/query.py does. Throws nothing onto the page; its promises never reject.
(() => {
  "use strict";

  const CLICKS = "adct rclid rtid gclid gbraid wbraid fbclid msclkid ttclid ScCid twclid li_fat_id epik";
  const UTM = "utm_source utm_medium utm_campaign utm_term utm_content utm_id";
  const CLICK = /^[!#-&(-+\--:=?-\[\]-z|~]{1,512}$/;
  const ROKT = /^[A-Za-z0-9_.~-]{1,256}$/;
  const TEXT = /^(?!\{.*\}$)(?! *$)[^\0-\x1f\x7f-\x9f\u2028\u2029]{1,256}$/u;

  // Loaded twice, the first one does it all. An array holds the calls made before this file arrived.
  const early = window.kit;
  if (early && early.collect) return;

  const tag = document.currentScript;
  const src = (tag && tag.tagName === "SCRIPT" && tag.src) || location.origin + "/kit/kit.js";
  const settings = (tag && tag.dataset) || {};
  const names = [CLICKS, settings.params, UTM].join(" ").split(/[\s,]+/);

  const attempt = (act) => {
    try {
      return act();
    } catch (_) {
      return "";
    }
  };

  const cookie = (name) =>
    attempt(() => document.cookie.split("; ").find((pair) => pair.startsWith(name + "=")).slice(name.length + 1));

  const refused = () => !!navigator.globalPrivacyControl || cookie("kit-consent") === "denied";
  const allowed = () => !refused() && (settings.consent !== "opt_in" || cookie("kit-consent") === "granted");

  // What was posted is remembered by the browser, what is still to be posted by the tab.
  const recall = (storage, key) => attempt(() => JSON.parse(window[storage]["kit." + key]));
  const keep = (storage, key, value) => attempt(() => (window[storage]["kit." + key] = JSON.stringify(value)));
  const drop = (storage, key) => attempt(() => window[storage].removeItem("kit." + key));

  const within = (milliseconds) => {
    const late = new AbortController();
    setTimeout(() => late.abort(), milliseconds);
    return late.signal;
  };

  // Answers true or false as the server does, and null when it did not.
  const post = async (path, body) => {
    try {
      const answer = await fetch(new URL(path, src), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        // Differs from "same-origin" only where the shop mounted the kit on another origin of its own.
        credentials: "include",
        keepalive: true,
        signal: within(10000),
      });
      return answer.ok || (answer.status < 500 ? false : null);
    } catch (_) {
      return null;
    }
  };

  // One after another: an older answer must not overwrite a newer one's cookie.
  let turn = Promise.resolve();
  const inTurn = (act) => (turn = turn.then(() => act()).then((done) => !!done, () => false));

  // ---------------------------------------------------------------- the landing

  const arrivalAt = (page) => {
    let query = page.search.slice(1);
    if (query.length > 8192) query = query.slice(0, Math.max(0, query.lastIndexOf("&", 8191)));
    const params = {};
    const kept = [];
    for (const pair of query.split("&").slice(0, 100)) {
      const name = pair.split("=", 1)[0];
      const raw = pair.slice(name.length + 1);
      if (!raw || raw.length > 3072 || !names.includes(name)) continue;
      const rule = UTM.split(" ").includes(name) ? TEXT : /^r(cl|t)id$/.test(name) ? ROKT : CLICK;
      // A malformed escape stands for itself.
      const text = attempt(() => decodeURIComponent(raw.replace(/%(?![0-9a-f]{2})/gi, "%25")));
      if (params[name] || !rule.test(text)) continue;
      params[name] = text;
      kept.push(pair);
    }
    return {
      params,
      url: page.origin + page.pathname + (kept[0] ? "?" + kept.join("&") : ""),
      referrer: document.referrer.split(/[?#]/)[0],
    };
  };

  const some = (one) => attempt(() => Object.keys(one.params).length > 0);

  // A router may have rewritten the address before this file came; an earlier page may have been offline.
  const opened = () => arrivalAt(new URL(performance.getEntriesByType("navigation")[0].name));
  const landings = [arrivalAt(location), attempt(opened), recall("sessionStorage", "landing")];
  let arrival = landings.find(some) || landings[0];

  const pixelCookie = () =>
    new Promise((resolve) => {
      const own = () => resolve(cookie("__adroll_fpc"));
      try {
        setTimeout(own, 1000);
        window.adroll.get_cookie((value) => (value ? resolve("" + value) : own()));
      } catch (_) {
        own();
      }
    });

  // The server takes 8 KiB: the pages' addresses go first, then what stands last in `names`.
  const fitting = (body) => {
    const tooLong = () => new Blob([JSON.stringify(body)]).size > 8192;
    if (tooLong()) body.url = body.referrer = "";
    for (const name of [...names].reverse()) if (tooLong()) delete body.params[name];
    return body;
  };

  let posted, told;
  const collected = async (again) => {
    // A single-page app may move on before consent is given: the landing is remembered, in here alone.
    const now = arrivalAt(location);
    if (some(now) || !some(arrival)) arrival = now;
    if (!allowed()) return false;
    const fpc = await pixelCookie();
    if (!allowed()) return false;
    const last = recall("localStorage", "posted") || {};
    let params = some(arrival) ? JSON.stringify(arrival.params) : last.params;
    const body = { ...arrival, params: { ...arrival.params }, fpc };
    // Told from here, and another tab has told of a newer click since.
    if (last.params && params === told && params !== last.params) {
      params = last.params;
      body.params = {};
    }
    if (fpc && params === last.params && [last.fpc, last.sent].includes(fpc)) return true;
    if (again && fpc === posted) return true;
    posted = fpc;
    const heard = await post("collect", fitting(body));
    if (heard === null && some(arrival)) keep("sessionStorage", "landing", arrival);
    else drop("sessionStorage", "landing");
    // Without a cookie nothing was kept, and is to be told again.
    const kept = cookie("__adroll_fpc");
    if (heard && kept) {
      told = params;
      keep("localStorage", "posted", { params, fpc: kept, sent: fpc });
    }
    return heard;
  };

  // Tabs that open together post once. One that the browser put to sleep meanwhile is not waited for.
  const alone = async (act) => {
    try {
      return await navigator.locks.request("kit.js", { signal: within(3000) }, () => act());
    } catch (_) {
      return act();
    }
  };
  const collect = () => inTurn(() => alone(collected));

  const moved = () => {
    const now = arrivalAt(location);
    // Compared here: some apps rewrite the address on every scroll.
    if (!some(now) || JSON.stringify(now.params) === JSON.stringify(arrival.params)) return;
    arrival = now;
    collect();
  };

  const watchHistory = () => {
    for (const name of ["pushState", "replaceState"]) {
      const own = history[name];
      history[name] = function (...given) {
        const result = own.apply(this, given);
        attempt(moved);
        return result;
      };
    }
    addEventListener("popstate", () => attempt(moved));
  };

  // ---------------------------------------------------------------- events

  const waiting = recall("sessionStorage", "events");
  let events = Array.isArray(waiting) ? waiting : [];

  const flush = async () => {
    while (events[0] && allowed()) {
      if ((await post("track", events[0])) === null) return false;
      events.shift();
      keep("sessionStorage", "events", events);
    }
    return !events[0];
  };

  // The id is made here and kept with the event: posted twice, it is one event.
  const hex = (byte) => (byte + 256).toString(16).slice(1);
  const eventId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("");

  const track = async (name, about) => {
    try {
      if (!allowed()) return false;
      const url = location.origin + location.pathname;
      const event = JSON.parse(JSON.stringify({ url, ...about, name, event_id: eventId() }));
      events = [...events, event].slice(-20);
      keep("sessionStorage", "events", events);
      return await inTurn(flush);
    } catch (_) {
      return false;
    }
  };

  // What the page's own Rokt and AdRoll tags are to be given, so that they name the order as the server does.
  const order = (order_id) => {
    const { rclid, rtid } = (allowed() && attempt(() => JSON.parse(recall("localStorage", "posted").params))) || {};
    const click = rclid || rtid;
    const ids = { order_id, confirmationref: order_id, transactionid: order_id };
    return click ? { ...ids, passbackconversiontrackingid: click } : ids;
  };

  // ---------------------------------------------------------------- who it is

  // Rockerbox's own loader may come later than the name; after ten seconds none is expected any more.
  const calls = [];
  const tellRockerbox = (tries) => {
    const RB = window.RB;
    if (!allowed()) calls.length = 0;
    else if (RB && RB.track) while (calls[0]) attempt(() => RB.track("identify", calls.shift()));
    else if (tries) setTimeout(tellRockerbox, 250, tries - 1);
  };

  const loadRockerbox = () => {
    if (!settings.rockerbox || window.RB || !allowed()) return;
    const RB = {
      queue: [],
      disablePushState: true,
      track: (...call) => RB.queue.push(call),
      initialize: (source) => (RB.source = source),
    };
    window.RB = RB;
    RB.initialize(settings.rockerbox);
    RB.track("view");
    const script = document.createElement("script");
    script.nonce = tag.nonce;
    script.src = "https://" + (settings.rockerboxDomain || "getrockerbox.com") + "/assets/wxyz.v2.js";
    document.head.append(script);
  };

  let held;
  const known = (person) => {
    const { email, customer_id, phone } = person;
    const same = { external_id: customer_id, email, phone_number: /^\d{10}$/.test(phone) ? phone : undefined };
    // Rockerbox joins by these two; a phone alone tells it nothing.
    if (email || customer_id) {
      calls.push(JSON.parse(JSON.stringify(same)));
      tellRockerbox(40);
    }
    return inTurn(() => post("identify", person));
  };

  const identify = async (given) => {
    try {
      const text = (value) => (/string|number/.test(typeof value) ? ("" + value).normalize("NFC").trim() : "");
      const phone = text(given.phone);
      const ten = phone.replace(/\D/g, "").replace(/^1(?=\d{10}$)/, "");
      const person = {
        email: text(given.email).toLowerCase() || undefined,
        customer_id: text(given.customer_id) || undefined,
        token: text(given.token) || undefined,
        phone: (ten.length === 10 ? ten : phone) || undefined,
      };
      if (JSON.stringify(person) === "{}") return false;
      if (allowed()) return await known(person);
      held = person;
    } catch (_) {}
    return false;
  };

  // A whole form is read by its fields' types and names; a single field by what its own attribute says.
  const submitted = ({ target }) => {
    const whole = target.matches("[data-kit-identify]");
    const person = {};
    for (const field of target.elements) {
      const says = field.dataset.kitIdentify;
      const as = says || { email: "email", tel: "phone" }[field.type] || field.name;
      if ((whole || says !== undefined) && !person[as]) person[as] = field.value;
    }
    // A form's field of that name is its own, against forgery.
    delete person.token;
    identify(person);
  };

  // ---------------------------------------------------------------- consent

  const forget = () => {
    events = [];
    held = null;
    calls.length = 0;
    drop("sessionStorage", "events");
    drop("sessionStorage", "landing");
  };

  const consent = (granted) =>
    inTurn(async () => {
      if (navigator.globalPrivacyControl) return false;
      const yes = granted === true;
      const heard = await post("consent", { granted: yes });
      if (yes && heard) {
        await alone(collected);
        attempt(loadRockerbox);
        if (held && allowed()) known(held);
      }
      if (!yes) {
        forget();
        told = "";
        drop("localStorage", "posted");
        // A no counts even when the server could not be told.
        if (!heard) attempt(() => (document.cookie = "kit-consent=denied; Path=/; Max-Age=31536000; SameSite=Lax"));
      }
      held = null;
      return heard;
    });

  const reset = () => inTurn(() => (forget(), !refused() && post("reset", {})));

  const kit = { collect, identify, track, order, consent, reset };
  kit.push = (...asked) => asked.forEach((call) => attempt(() => kit[call[0]](...[...call].slice(1))));
  window.kit = kit;

  const tellAll = () => {
    collect();
    inTurn(flush);
  };

  const start = () => {
    tellAll();
    // By then the pixel may have made a cookie of its own: both sides are to agree on one.
    if (document.readyState !== "complete") addEventListener("load", () => inTurn(() => alone(() => collected(true))));
    attempt(watchHistory);
    attempt(loadRockerbox);
    addEventListener("online", tellAll);
    addEventListener("pageshow", (shown) => shown.persisted && tellAll());
    document.addEventListener("submit", (event) => attempt(() => submitted(event)), true);
    identify({ email: settings.email, customer_id: settings.customerId, phone: settings.phone, token: settings.token });
    if (Array.isArray(early)) attempt(() => kit.push(...early));
  };
  if (document.prerendering) document.addEventListener("prerenderingchange", start);
  else start();
})();

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

  const post = async (path, body) => {
    try {
      const late = new AbortController();
      setTimeout(() => late.abort(), 10000);
      const answer = await fetch(new URL(path, src), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        // Differs from "same-origin" only where the shop mounted the kit on another origin of its own.
        credentials: "include",
        keepalive: true,
        signal: late.signal,
      });
      return answer.ok;
    } catch (_) {
      return false;
    }
  };

  // One after another: an older answer must not overwrite a newer one's cookie.
  let turn = Promise.resolve();
  const inTurn = (act) => (turn = turn.then(() => act()).catch(() => false));

  const arrivalNow = () => {
    let query = location.search.slice(1);
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
      url: location.origin + location.pathname + (kept[0] ? "?" + kept.join("&") : ""),
      referrer: document.referrer.split(/[?#]/)[0],
    };
  };

  const some = ({ params }) => Object.keys(params).length > 0;
  let arrival = arrivalNow();

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

  let posted;
  const collected = async (again) => {
    // A single-page app may move on before consent is given: the landing is remembered, in here alone.
    const now = arrivalNow();
    if (some(now) || !some(arrival)) arrival = now;
    if (!allowed()) return false;
    const fpc = await pixelCookie();
    if (!allowed()) return false;
    const last = attempt(() => JSON.parse(localStorage["kit.posted"])) || {};
    const params = some(arrival) ? JSON.stringify(arrival.params) : last.params;
    if (fpc && params === last.params && [last.fpc, last.sent].includes(fpc)) return true;
    if (again && fpc === posted) return true;
    posted = fpc;
    const heard = await post("collect", fitting({ ...arrival, params: { ...arrival.params }, fpc }));
    // Without a cookie nothing was kept, and is to be told again.
    const kept = cookie("__adroll_fpc");
    if (heard && kept) attempt(() => (localStorage["kit.posted"] = JSON.stringify({ params, fpc: kept, sent: fpc })));
    return heard;
  };

  const collect = () => inTurn(collected);

  let held;
  const told = (person) => {
    const { email, customer_id, phone } = person;
    const same = { external_id: customer_id, email, phone_number: /^\d{10}$/.test(phone) ? phone : undefined };
    // Rockerbox joins by these two; a phone alone tells it nothing.
    if (email || customer_id) attempt(() => window.RB.track("identify", JSON.parse(JSON.stringify(same))));
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
        phone: (ten.length === 10 ? ten : phone) || undefined,
      };
      if (JSON.stringify(person) === "{}") return false;
      if (allowed()) return await told(person);
      held = person;
    } catch (_) {}
    return false;
  };

  const consent = (granted) =>
    inTurn(async () => {
      if (navigator.globalPrivacyControl) return false;
      const yes = granted === true;
      const heard = await post("consent", { granted: yes });
      if (yes && heard) {
        await collected();
        if (held && allowed()) told(held);
      }
      if (!yes) {
        attempt(() => localStorage.removeItem("kit.posted"));
        // A no counts even when the server could not be told.
        if (!heard) document.cookie = "kit-consent=denied; Path=/; Max-Age=31536000; SameSite=Lax";
      }
      held = null;
      return heard;
    });

  const reset = () => inTurn(() => !refused() && post("reset", {}));

  const kit = { collect, identify, consent, reset };
  kit.push = (...calls) => calls.forEach((call) => attempt(() => kit[call[0]](...[...call].slice(1))));
  window.kit = kit;

  const start = () => {
    collect();
    // By then the pixel may have made a cookie of its own: both sides are to agree on one.
    if (document.readyState !== "complete") addEventListener("load", () => inTurn(() => collected(true)));
    if (Array.isArray(early)) attempt(() => kit.push(...early));
  };
  if (document.prerendering) document.addEventListener("prerenderingchange", start);
  else start();
})();

"""What the facts of a visit mean: where a click or a cookie is lost on the way, and what to do about it."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from kit import consent
from kit.capture.answers import Room, room
from kit.capture.hosts import is_loopback
from kit.doctor import Finding
from kit.site import cookies, safari
from kit.site.facts import CLICK, Fetched, Seen, host, origin, printable, shown, site
from kit.site.policy import forbids_posting, forbids_script
from kit.web.assets import kit_js


def judged(seen: Seen, now: datetime) -> list[Finding]:
    """Return what a browser will do with the kit's cookies on this shop, in the order of the visit."""
    findings = [_visit(seen), *_redirects(seen.hops)]
    if seen.page.status != 200:
        return findings
    findings += [_transport(seen.page), *_page(seen), *cookies.judged(cookies.cookies_of(seen.page), "the page", now)]
    findings += [*_tag(seen), *_policy(seen), *_script(seen), *_endpoints(seen, now)]
    set_all = [one for each in (*seen.hops, seen.collect) if each is not None for one in cookies.cookies_of(each)]
    if (twice := cookies.doubled(set_all, seen.page.url)) is not None:
        findings.append(twice)
    if seen.script is not None:
        findings.append(safari.judged(host(seen.page.url), host(seen.script.url), seen.addresses))
    return findings


# ---------------------------------------------------------------- the way to the page


def _visit(seen: Seen) -> Finding:
    page = seen.page
    if page.answer is None:
        return Finding("visit", "bad", f"{shown(page.url)}: {page.error}", "is the address right, TLS in order?")
    if page.status != 200:
        said = f"{shown(page.url)} answered HTTP {page.status}; nothing else was looked at"
        return Finding("visit", "bad", said, "name a page that people open, and let this visit past a bot wall")
    said = f"{shown(page.url)} as a visitor who said yes; it makes one visitor without an order (adct={CLICK})"
    return Finding("visit", "good", said)


def _redirects(hops: Sequence[Fetched]) -> Iterator[Finding]:
    if len(hops) < 2:
        return
    about, page = "redirects", hops[-1].url
    if site(hops[0].url) != site(page):
        said = f"from {host(hops[0].url)} to {host(page)}, another site: cookies of the first are not the second's"
        yield Finding("another site", "warning", said, "let the ads lead to the shop's own domain")
    lost = next((at for at, hop in enumerate(hops) if hop.url.params.get("adct") != CLICK), None)
    if lost is None:
        yield Finding(about, "good", f"{len(hops) - 1}, and the click id came along")
        return
    said = f"{shown(hops[lost - 1].url)} leads to {shown(hops[lost].url)} without the query: adct is lost there"
    advice = "let every redirect keep the query string ($request_uri in nginx), or let the ads name the last address"
    # The middleware keeps a click on a redirect as well.
    before = (one for hop in hops[:lost] for one in cookies.visitor_cookies(hop))
    if any(cookies.is_sent_to(one, page) for one in before):
        yield Finding(about, "warning", f"{said}; the kit kept it before, kit.js and the pixel do not see it", advice)
    else:
        yield Finding(about, "bad", said, advice)


def _transport(page: Fetched) -> Finding:
    if page.url.scheme == "https":
        return Finding("https", "good", "the page is served over TLS")
    if is_loopback(page.url.netloc):
        return Finding("https", "warning", "plain http on this machine", "for development; serve the shop over https")
    said = "plain http: no browser keeps a Secure cookie from it"
    return Finding("https", "bad", said, "redirect http to https with the query kept")


# ---------------------------------------------------------------- the page's cookies


def _page(seen: Seen) -> Iterator[Finding]:
    page, own = seen.page, cookies.visitor_cookies(seen.page)
    shared = _shared(page)
    if own and shared:
        said = f"it sets a visitor's cookie and may be kept for everybody ({shared}): all would be one visitor"
        advice = "the kit sets none on such an answer: stop the CDN or proxy rule that rewrites its Cache-Control"
        yield Finding("page", "bad", said, advice)
    elif own and not _sets_first_party(page):
        said = f"it sets the visitor's cookie without {cookies.FIRST_PARTY}"
        yield Finding("page", "bad", said, "the kit sets both: what in front of the shop, or in it, takes one away?")
    elif own:
        yield Finding("page", "good", "sets both cookies, and no shared cache may keep it")
    elif shared and _kit_js_does_it(seen):
        said = f"a shared cache may keep it ({shared}), so it sets no cookie; kit.js has them set"
        yield Finding("page", "good", said)
    elif shared:
        said = f"a shared cache may keep it ({shared}), so it sets no cookie, and kit.js does not have one set either"
        yield Finding("page", "bad", said, "see the findings on kit.js, or answer pages with Cache-Control: private")
    else:
        yield _without_cookie(seen)


def _without_cookie(seen: Seen) -> Finding:
    control = seen.page.headers.get("cache-control")
    if cookies.visitor_cookies(seen.collect):
        said = "no visitor's cookie, though /kit/collect sets them"
        if control is None:
            advice = "put CaptureMiddleware around this page; or does something in front change Sec-Fetch-Mode?"
        else:
            said += f" (Cache-Control: {control})"
            advice = "CaptureMiddleware is not around this page, or a CDN or proxy strips its Set-Cookie"
        return Finding("page", "bad", said, advice)
    if _rule_says_no(seen):
        said = "no visitor's cookie, though Set-Cookie comes through: the shop's consent rule said no to this visit"
        advice = "does your rule say yes to such a visit? does something add Sec-GPC, or change the user agent?"
        return Finding("page", "warning", said, advice)
    if seen.consent is not None and seen.consent.status == 204:
        said = "no cookie, nor from /kit/consent, which sets one for every visitor"
        advice = "let the CDN or proxy pass Set-Cookie on, of pages and /kit; insecure_cookies=True is for loopback"
        return Finding("page", "bad", said, advice)
    advice = "put CaptureMiddleware around the app and mount endpoints(kit) at /kit"
    return Finding("page", "bad", "no visitor's cookie, and no endpoint that would set one", advice)


def _shared(page: Fetched) -> str:
    """Return the header by which a shared cache may keep this answer, or has kept it; "" when none may."""
    headers = page.headers
    for name in ("x-cache", "x-cache-status", "cf-cache-status", "x-vercel-cache"):
        if "hit" in headers.get(name, "").lower():
            return f"{name}: {headers[name]}"
    if headers.get("age", "0") != "0":
        return f"age: {headers['age']}"
    if room("GET", page.status, [(name.lower(), value) for name, value in headers.raw]) is not Room.NONE:
        return ""
    by = [name for name in headers if name in {"cache-control", "expires"} or name.endswith("-control")]
    return ", ".join(f"{name}: {headers[name]}" for name in by) or "by a CDN's own header"


def _rule_says_no(seen: Seen) -> bool:
    """Return whether Set-Cookie comes through, so that nothing but consent can have kept the others back."""
    if seen.consent is None:
        return False
    return any(one.name == consent.COOKIE.decode() for one in cookies.cookies_of(seen.consent))


def _kit_js_does_it(seen: Seen) -> bool:
    return bool(seen.tags) and seen.script is not None and _is_script(seen.script) and _collects(seen)


def _collects(seen: Seen) -> bool:
    return any(not cookies.refusal(one) for one in cookies.visitor_cookies(seen.collect))


def _sets_first_party(fetched: Fetched) -> bool:
    return any(one.name == cookies.FIRST_PARTY for one in cookies.cookies_of(fetched))


# ---------------------------------------------------------------- kit.js


def _tag(seen: Seen) -> Iterator[Finding]:
    about, page = "kit.js in the page", seen.page
    if len(seen.tags) == 1:
        yield _one_tag(seen)
    elif seen.tags:
        yield Finding(about, "warning", f"its tag stands there {len(seen.tags)} times", "one is enough; the first acts")
    elif (encoding := page.headers.get("content-encoding", "identity")) not in {"identity", "gzip", "deflate"}:
        said = f"it came as {encoding}, which was not asked for and cannot be read here"
        yield Finding(about, "warning", said, "a server or CDN must obey Accept-Encoding")
    elif page.answer is not None and page.answer.cut:
        yield Finding(about, "warning", "no tag in the first MiB of it", "print script_tag(...) in the head")
    else:
        said = "no script tag of kit.js"
        if seen.script is not None and _is_script(seen.script):
            said += f", though {shown(seen.script.url)} is there"
        advice = "print script_tag(...) in the page's template; if it does, a CDN or proxy that rewrites HTML drops it"
        yield Finding(about, "warning" if cookies.visitor_cookies(page) else "bad", said, advice)


def _one_tag(seen: Seen) -> Finding:
    about, tag = "kit.js in the page", seen.tags[0]
    kind = tag.attributes.get("type", "").lower()
    if tag.url.scheme == "http" and seen.page.url.scheme == "https":
        return Finding(about, "bad", "its tag names http on an https page: blocked", "name a path in script_tag(...)")
    if kind not in {"", "text/javascript", "application/javascript", "module"}:
        said = f'its tag has type="{printable(kind)}", so it does not run by itself'
        return Finding(
            about, "warning", said, "exempt it from consent manager and optimizer; it asks for consent itself"
        )
    return Finding(about, "good", f"loads {shown(tag.url)}")


def _policy(seen: Seen) -> Iterator[Finding]:
    page = seen.page.url
    if not seen.policies or not seen.tags or seen.collect is None:
        return
    tag, about = seen.tags[0], "Content-Security-Policy"
    script = forbids_script(seen.policies, tag, page)
    posting = forbids_posting(seen.policies, seen.collect.url, page)
    source = "'self'" if origin(tag.url) == origin(page) else origin(tag.url)
    if script:
        advice = f"add {source} to script-src, or the tag's nonce"
        yield Finding("kit.js blocked", "bad", f"{about}: {printable(script)}", advice)
    if posting:
        said = f"{about}: {printable(posting)}"
        yield Finding("posts of kit.js blocked", "bad", said, f"add {source} to connect-src")
    if not script and not posting:
        yield Finding(about, "good", "lets kit.js load and post")


def _script(seen: Seen) -> Iterator[Finding]:
    script = seen.script
    if script is None or not seen.tags:
        return
    about, where = "kit.js", shown(script.url)
    if script.status != 200:
        said = f"{where}: {_what(script)}"
        yield Finding(about, "bad", said, "mount endpoints(kit) there, and route the path to the shop")
    elif not _is_script(script):
        said = f"{where} is not JavaScript by its Content-Type"
        yield Finding(about, "bad", said, "a catch-all route or a CDN answers there instead of endpoints(kit)")
    elif not _is_whole(seen, script.body):
        said = "its bytes are not those of the tag's integrity: browsers refuse it"
        yield Finding(about, "bad", said, "stop what minifies or rewrites it on the way")
    else:
        version = "this" if script.body == kit_js().body else "another"
        yield Finding(about, "good", f"{where} answers, with {version} version of the kit")


def _is_script(fetched: Fetched) -> bool:
    media_type = fetched.headers.get("content-type", "").partition(";")[0].strip().lower()
    return fetched.status == 200 and media_type.endswith("javascript")


def _is_whole(seen: Seen, body: bytes) -> bool:
    digests = seen.tags[0].attributes.get("integrity", "").split()
    known = {
        f"{name}-{base64.b64encode(hashlib.new(name, body).digest()).decode()}"
        for name in ("sha256", "sha384", "sha512")
    }
    return not digests or not known.isdisjoint(digests)


# ---------------------------------------------------------------- its endpoints


_REFUSALS = {
    401: "something in front asks for a password there",
    403: "a proxy changes Sec-Fetch-Site, Origin or Host, or a bot wall stands there; another origin: Kit(origins=...)",
    404: "mount endpoints(kit) there, and route the path to the shop",
    405: "route POST to the shop as well; a static host or a CDN answers there",
    413: "something limits bodies to less than 8 KiB",
    415: "a proxy rewrites Content-Type or compresses the body",
}


def _endpoints(seen: Seen, now: datetime) -> Iterator[Finding]:
    collect = seen.collect
    if collect is None:
        return
    about = "/kit/collect"
    if collect.status != 204:
        said = f"{shown(collect.url)}: {_what(collect)}"
        advice = _REFUSALS.get(collect.status, "route /kit to the shop: its endpoints answer 204")
        yield Finding(about, "bad" if seen.tags else "warning", said, advice)
        return
    if reason := _unread(seen, collect):
        said = f"{origin(collect.url)} is another origin than the page's, and {reason}"
        yield Finding(about, "bad", said, "name the page's origin in Kit(origins=...), and let the headers through")
    elif not cookies.visitor_cookies(collect):
        said, advice = "it answers and sets no cookie", "see what is said of the page"
        yield Finding(about, "warning" if _rule_says_no(seen) else "bad", said, advice)
    elif not _sets_first_party(collect):
        said = f"it sets the visitor's cookie without {cookies.FIRST_PARTY}"
        yield Finding(about, "bad", said, "the kit sets both: what takes one away?")
    else:
        yield Finding(about, "good", "answers and sets both cookies")
    yield from cookies.judged(cookies.cookies_of(collect), about, now)
    yield from _foreign(seen.foreign)


def _unread(seen: Seen, collect: Fetched) -> str:
    """Return why a browser keeps this answer from kit.js, "" when it does not."""
    page = origin(seen.page.url)
    if origin(collect.url) == page:
        return ""
    if collect.headers.get("access-control-allow-origin") != page:
        return "Access-Control-Allow-Origin does not name it"
    if collect.headers.get("access-control-allow-credentials") != "true":
        return "Access-Control-Allow-Credentials is missing, so its cookies are dropped"
    return ""


def _foreign(foreign: Fetched | None) -> Iterator[Finding]:
    if foreign is None:
        return
    about = "posts from other sites"
    if foreign.status == 204:
        said = "one was taken for the shop's own"
        yield Finding(about, "bad", said, "a proxy rewrites Sec-Fetch-Site or Origin; pass them on as they came")
    else:
        yield Finding(about, "good", "refused, as they are to be")


def _what(fetched: Fetched) -> str:
    return f"HTTP {fetched.status}" if fetched.answer is not None else fetched.error

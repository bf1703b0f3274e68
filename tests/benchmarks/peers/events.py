"""The order that the peers are given: about as many bytes as ours."""


def event(number):
    return {
        "type": "track",
        "event": "Order Completed",
        "userId": f"customer-{number}",
        "anonymousId": f"{number:032x}",
        "messageId": f"order-{number}",
        "timestamp": "2026-01-15T12:00:00.000000+00:00",
        "context": {"ip": "203.0.113.7", "library": {"name": "analytics-python", "version": "2"}},
        "integrations": {},
        "properties": {
            "order_id": f"order-{number}",
            "revenue": "123.45",
            "currency": "USD",
            "url": "https://shop.example.com/thanks",
            "products": [{"product_id": "shoe-1", "name": "Trail shoe", "price": "123.45", "quantity": 1}],
        },
    }


def flat(number):
    return {
        "e": "se",
        "eid": f"order-{number}",
        "uid": f"customer-{number}",
        "duid": f"{number:032x}",
        "ip": "203.0.113.7",
        "url": "https://shop.example.com/thanks",
        "se_ca": "order",
        "se_ac": "completed",
        "se_la": f"order-{number}",
        "se_va": "123.45",
        "tv": "py-1",
        "co": '{"products":[{"product_id":"shoe-1","name":"Trail shoe","price":"123.45"}],"currency":"USD"}',
    }

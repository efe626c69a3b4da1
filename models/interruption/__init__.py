"""The interruption model: does the caller want the floor?"""
